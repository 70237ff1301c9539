"""Measures responders: runs episodes (tests of a responder) on testbeds, and scores how the responder handled them.

Input: episodes (rows of a data set), and the command that starts a responder.
Output: observations and metrics of each episode; experiments for `lab run`, whose trials are episodes.
Entry points: `service` for the command line; `python -m relab.testbed.scoring`, the harness, which runs one trial. The
experiment runner starts the harness as a program; the two do not import each other.
"""

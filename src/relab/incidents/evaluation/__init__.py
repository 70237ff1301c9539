"""Compute the figures of a responder from the episodes of an evaluation. Pure.

In: scored episodes. Out: shares and medians with confidence intervals.
"""

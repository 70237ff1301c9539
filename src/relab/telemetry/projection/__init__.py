"""Runs that are computed from their stored spans.

In: traces that have new spans, or that an older version of relab computed. Out: rows of runs.
"""

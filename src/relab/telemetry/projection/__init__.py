"""Compute runs from their stored spans, and write them.

In: traces that have new spans, or that an older version of relab computed. Out: rows of runs.
"""

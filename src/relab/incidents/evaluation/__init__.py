"""Compute figures about responders, such as detection rates, from the episodes of an evaluation. Pure.

In: the scores of each episode (a test of a responder). Out: rates and differences with confidence intervals, medians
and sums.
"""

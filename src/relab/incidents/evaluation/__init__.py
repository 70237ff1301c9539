"""Compute figures about responders, such as detection rates, from the episodes of an evaluation. Pure.

In: scored episodes. Out: shares and medians with confidence intervals.
"""

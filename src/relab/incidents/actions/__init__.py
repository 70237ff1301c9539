"""Decide on actions, request them from the action server, and verify their effect.

In: causes with probabilities, facts, polls and the catalogue of the action server. Out: a plan, the policy's decision
on it, requests to that server, and the verified result of each action. All modules but `client` and `transport` are
pure.
"""

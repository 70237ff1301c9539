"""Decide on actions, request them from the action server, and verify their effect.

In: causes with probabilities, facts, polls and the catalogue of the action server. Out: a plan, the ruling of the policy on
it, requests to the server, and the result of an action. All but `client` and `transport` is pure.
"""

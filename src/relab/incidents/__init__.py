"""The incident responder. It polls a target, opens incidents, diagnoses, acts, verifies, and learns from results.

It is blind: it does not know which faults are injected into a testbed.
"""

"""Diagnose the cause of an incident from facts: match runbooks, compute probabilities, and choose the next looks."""

"""Diagnose the cause of an incident from facts.

Pure, except for the probes and the language model, which are passed in as functions. In: facts with evidence, runbooks,
the baseline and past incidents. Out: candidates with probabilities, and the names of the probes to run next.
"""

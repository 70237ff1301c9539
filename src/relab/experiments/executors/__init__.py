"""Executors, which run the trials of a run: one protocol, implemented by threads of this process and by a Ray cluster.

In: `Trial` values. Out: a `TrialResult` for each, in any order. Sandboxes, threads and the clean-up of processes belong
to the executor; the journal, the tables and the verdicts of a run do not depend on it.
"""

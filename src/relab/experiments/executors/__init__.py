"""Run the trials of a run. An executor runs them in threads of this process, or on the nodes of a Ray cluster.

In: `Trial` values. Out: a `TrialResult` for each, in any order. Sandboxes, threads and the clean-up of processes belong
to the executor; the journal, the tables and the verdicts of a run do not depend on it.
"""

"""Where trials run: one protocol, with one implementation for threads of this process.

In: `Trial` values. Out: a `TrialResult` for each, in any order. Sandboxes, threads and the clean-up of processes stay
inside; the journal, the tables and the verdicts of a run do not depend on the executor.
"""

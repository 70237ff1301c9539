"""Turn a configuration into the trials to run.

In: a configuration, overrides, and the data set. Out: `Resolved`, with the tasks, the isolation in effect, and the
`TrialPlan`, which is the order of all trials.
"""

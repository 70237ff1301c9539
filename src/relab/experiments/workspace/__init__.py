"""Copy the project for each trial, and read, measure and delete files that a harness could have changed.

In: the project's folder. Out: a snapshot that all trials share, one copy for each trial, and the difference between the
copy before and after the trial.
"""

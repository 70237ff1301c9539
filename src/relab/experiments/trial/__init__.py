"""Run one trial: prepare its folder, start and watch its harness in a sandbox, and read what the harness wrote.

In: one planned trial and the values that all trials of a run share. Out: the trial's row, journal entry and agent run.
This package uses neither the journal nor other trials.
"""

"""Logs of Inspect AI (`.eval`): read as runs of experiments, and written from runs.

In: `.eval` files, or the folder of a finished run. Out: the folder of a run and agent runs for telemetry, or `.eval` files.
"""

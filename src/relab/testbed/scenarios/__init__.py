"""Scenarios: planned events on a testbed, as files in chaostoolkit's experiment format, and a runner for them.

Input: a file or the name of a shipped scenario; the addresses of a testbed; values for the file's variables.
Output: a conclusion (held, deviated, undecided, interrupted) and chaostoolkit's journal.
Entry points: `service`, for running scenarios; `background.BackgroundLoad`, for the requests of a testbed's users. The
scoring of responders uses this load, too. This folder reaches a testbed over HTTP only.
"""

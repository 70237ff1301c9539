"""Scenarios: planned events on a testbed, as files in chaostoolkit's experiment format, and a runner for them.

Input: a file or the name of a shipped scenario; the addresses of a testbed; values for the file's variables.
Output: a conclusion (held, deviated, undecided, interrupted) and chaostoolkit's journal.
Entry points: `service`; `background.BackgroundLoad`, the users of a testbed, for scoring. This folder reaches a testbed
over HTTP only.
"""

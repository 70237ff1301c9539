"""`lab` as the processes that users start."""

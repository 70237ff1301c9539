"""`lab run` and the other commands for experiments."""

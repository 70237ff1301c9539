"""`lab run` and the other commands of experiments."""

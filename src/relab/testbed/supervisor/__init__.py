"""The supervisor of a testbed: starts, watches, restarts, resets and ends everything else."""

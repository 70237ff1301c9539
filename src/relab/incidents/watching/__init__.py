"""Poll a target at intervals, and hand the polls to consumers."""

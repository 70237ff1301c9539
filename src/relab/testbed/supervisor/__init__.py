"""The supervisor of a testbed: it starts, monitors, restarts, resets and stops all other components."""

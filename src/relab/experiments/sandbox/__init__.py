"""Sandboxes for trials: one protocol, and three implementations with different isolation from this machine."""

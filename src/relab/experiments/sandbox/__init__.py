"""Sandboxes in which trials run: one protocol, implemented by plain processes, by bubblewrap and by containers."""

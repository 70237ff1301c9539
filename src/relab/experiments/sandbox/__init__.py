"""Sandboxes for trials: one protocol, three implementations, one conformance suite."""

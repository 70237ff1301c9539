"""Scenarios: planned events on a testbed, as files in chaostoolkit's experiment format, and a runner for them."""

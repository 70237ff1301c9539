"""Scenarios: what happens to a testbed, as files in chaostoolkit's experiment format, and a runner for them."""

"""Support for tests of root cause analysis."""

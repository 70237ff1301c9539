"""Inspect AI in an environment of its own: it writes logs that relab reads, and reads logs that relab writes."""

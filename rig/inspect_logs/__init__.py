"""Inspect AI in a separate environment: it writes logs that relab reads, and reads logs that relab writes."""

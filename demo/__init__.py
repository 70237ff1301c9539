"""A guided tour: real agents fail against a real tool server, and relab reports why (`python -m demo`)."""

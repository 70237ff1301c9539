"""The guided tour: real agents fail against a real tool server, and relab says why (`python -m demo`)."""

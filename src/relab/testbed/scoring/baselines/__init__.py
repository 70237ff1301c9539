"""Very simple responders, with which other responders are compared."""

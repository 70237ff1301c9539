"""Very simple responders, to compare other responders with."""

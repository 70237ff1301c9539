"""`lab` commands and servers as processes."""

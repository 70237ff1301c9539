"""Projects to build."""

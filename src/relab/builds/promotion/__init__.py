"""Promotion: which policy a project's builds use by default, changed only if the log of decisions shows that it is better."""

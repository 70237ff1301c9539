"""Promotion: replace the default policy of a project's builds, if the log of decisions shows that another one is better."""

"""Diagnostics for operators; all of them are read-only."""

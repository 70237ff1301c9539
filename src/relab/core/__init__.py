"""Errors, ids, clock, JSON and logging. All other packages may use this package."""

"""Errors, ids, clock, JSON and logging; every other package may use this package."""

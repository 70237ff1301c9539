"""Errors, ids, clock, JSON and logging: what every other package may use."""

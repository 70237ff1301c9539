"""Experiments: configurations, and project folders in which `lab run` runs."""

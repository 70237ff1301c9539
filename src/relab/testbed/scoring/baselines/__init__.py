"""Baseline responders, each of which takes ten minutes to write; other responders are compared with them."""

"""Databases that fail, and processes that use them."""

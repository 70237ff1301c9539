"""Suggest fixes for failed builds, store the suggestions, list them, and accept or reject them."""

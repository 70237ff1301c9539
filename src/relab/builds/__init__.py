"""Builds: run them with settings that can be chosen, record their results, and learn which settings suit them."""

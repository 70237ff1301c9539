"""Builds: run them with settings that can be chosen, record what they did, and learn which settings suit them."""

"""Policies behind one protocol; a new one is one module, and one line in `registry.py`."""

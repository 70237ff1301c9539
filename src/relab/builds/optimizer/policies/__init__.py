"""Policies behind one protocol; a new policy is one module and one line in `registry.py`."""

"""Policies behind one protocol; a new policy is one module and its entry in `registry.py`."""

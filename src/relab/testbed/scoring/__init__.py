"""Measures responders: runs episodes on testbeds and scores them, on the testbed's side, hidden from the responder."""

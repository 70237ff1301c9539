"""Measures responders: episodes on testbeds, run and scored on the testbed's side of the wall."""

"""Whole testbeds, the target, the action server, faults and their signals."""

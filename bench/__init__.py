"""Benchmarks. Each figure is printed next to its floor: the speed of the same work without relab. They are not tests."""

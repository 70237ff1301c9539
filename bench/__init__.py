"""Benchmarks, which are not tests. Each figure is printed next to its floor: the same work without relab."""

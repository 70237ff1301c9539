"""Helpers of tests and benchmarks: real servers, child processes, synthetic experiment runs, waiting for conditions."""

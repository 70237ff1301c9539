"""Helpers of tests and benchmarks: real servers, child processes, made-up experiment runs, waiting for conditions."""

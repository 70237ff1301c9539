"""What tests and benchmarks run against: real servers, child processes, made-up runs, and waiting for conditions."""

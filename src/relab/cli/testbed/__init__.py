"""`lab testbed`: start and stop testbeds (small shops into which faults can be injected), and run scenarios."""

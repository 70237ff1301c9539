"""Find anomalies in polls, without a clock, a network, or knowledge of what was done to the target."""

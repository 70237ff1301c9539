"""Links: TCP proxies in front of the dependencies, in which network faults are simulated."""

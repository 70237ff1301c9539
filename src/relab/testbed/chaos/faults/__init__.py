"""The catalogue of faults. Each file has the faults of one area, such as the cache, the network or the traffic."""

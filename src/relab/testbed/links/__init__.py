"""Links: TCP proxies in front of the dependencies, where what is wrong with a network is wrong."""

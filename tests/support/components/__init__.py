"""Components of the system that some tests need: browsers, Prometheus, chaostoolkit, the weights of a model."""

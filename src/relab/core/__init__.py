"""Basic modules that all other packages may import, such as errors, ids, clock, JSON, YAML and logging."""

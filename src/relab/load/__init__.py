"""An open-loop load generator for HTTP services: it sends each request at its due time, even if answers are slow."""

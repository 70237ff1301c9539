"""The HTTP API: one module of routes for each context. The routes only call the services."""

"""The parts that `api`, `web` and `mcp` share: access checks, body readers, problem documents, event streams, metrics.

In: ASGI requests and the services of `bootstrap`. Out: dependencies, middleware and responses for routes.
"""

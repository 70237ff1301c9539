"""The parts that `api`, `web` and `mcp` share: access checks, body readers, problem documents, event streams, metrics.

Routes use its dependencies and responses, and the apps its middleware.
"""

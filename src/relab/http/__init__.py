"""The parts that `api`, `web` and `mcp` share: access checks, body readers, problem documents, event streams, metrics.

Routes use the dependencies and responses of this package; the apps use its middleware.
"""

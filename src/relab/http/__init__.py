"""What `api`, `web` and `mcp` share: access checks, body readers, problem documents, event streams, metrics of requests."""

"""The durable job queue: one table of truth, two ways to be woken."""

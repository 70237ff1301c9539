"""The target: a small shop with search, on PostgreSQL, Redis and two vector indexes."""

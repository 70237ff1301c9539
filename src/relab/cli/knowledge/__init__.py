"""`lab knowledge`: runbooks and past incidents."""

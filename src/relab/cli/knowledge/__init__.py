"""`lab knowledge`: list, search, check and change runbooks and past incidents."""

"""Read-only diagnostics for operators: of the database, the cache, the machine, and the supervisor's components."""

"""Prepare a database at the start of a process."""

from __future__ import annotations

from relab.storage.database import Database
from relab.storage.schema import SchemaState, require_current, schema_state


def prepare(database: Database) -> None:
    """Prepare a database at the start of a process: migrate SQLite to the current schema, but only check PostgreSQL.

    Raises:
        SchemaError: the schema does not fit this version. On SQLite, an older schema is no error, because it is
            migrated.
        ConfigurationError: the file for the lock of a SQLite migration cannot be written.
        DatabaseUnavailableError: the database cannot be reached.
    """
    if database.is_sqlite and schema_state(database)[0] is not SchemaState.CURRENT:
        # Alembic is loaded only for a migration.
        from relab.storage.migrate import upgrade

        upgrade(database)
    require_current(database)

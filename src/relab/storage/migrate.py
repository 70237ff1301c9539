"""Bringing a database to the schema of this version, and refusing what does not fit.

SQLite is migrated at start, under a file lock, because it belongs to one installation.
PostgreSQL is migrated only by `lab db upgrade`, because several processes share it.
"""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, inspect, text

from relab.storage.database import Database
from relab.storage.engine import WRITE_OPTION
from relab.storage.errors import ForeignDatabaseError, NewerSchemaError, OutdatedSchemaError

VERSION_TABLE = "relab_alembic_version"
_ADVISORY_LOCK = 0x72656C6162  # "relab" in ASCII: one migration at a time on PostgreSQL


class SchemaState(StrEnum):
    """How a database's schema relates to this version of relab."""

    EMPTY = "empty"
    CURRENT = "current"
    OUTDATED = "outdated"
    NEWER = "newer"
    FOREIGN = "foreign"


def schema_state(database: Database) -> tuple[SchemaState, str | None]:
    """Return the state of the schema and the revision that is stored."""
    with database.read() as session:
        return _state(session.connection())


def require_current(database: Database) -> None:
    """Return if the schema fits this version.

    Raises:
        NewerSchemaError, OutdatedSchemaError, ForeignDatabaseError: it does not, with the remedy.
    """
    state, revision = schema_state(database)
    _refuse_unusable(database, state, revision)
    if state is not SchemaState.CURRENT:
        raise OutdatedSchemaError(
            f"The database {database.describe()} is at schema revision {revision or 'none'}; this relab needs {head()}.",
            remedy="Run `lab db upgrade`.",
        )


def upgrade(database: Database, revision: str = "head") -> None:
    """Migrate up to `revision`, one process at a time; does nothing when already there.

    Raises:
        NewerSchemaError, ForeignDatabaseError: the database is not ours to migrate.
    """
    with _migration_connection(database) as connection:
        state, stored = _state(connection)
        _refuse_unusable(database, state, stored)
        command.upgrade(_config(connection), revision)


def downgrade(database: Database, revision: str) -> None:
    """Migrate down to `revision` (`base` empties the database).

    Raises:
        NewerSchemaError, ForeignDatabaseError: the database is not ours to migrate.
    """
    with _migration_connection(database) as connection:
        state, stored = _state(connection)
        _refuse_unusable(database, state, stored)
        command.downgrade(_config(connection), revision)


def prepare(database: Database) -> None:
    """Make the database usable at start: migrate SQLite, check PostgreSQL.

    Raises:
        SchemaError: the schema does not fit and may not be changed here.
        DatabaseUnavailableError: the database cannot be reached.
    """
    if database.is_sqlite and schema_state(database)[0] is not SchemaState.CURRENT:
        upgrade(database)
    require_current(database)


def head() -> str:
    """Return the newest revision that this version knows."""
    revision = ScriptDirectory.from_config(_config(None)).get_current_head()
    if revision is None:
        raise RuntimeError("the package holds no migrations")
    return revision


def _state(connection: Connection) -> tuple[SchemaState, str | None]:
    context = MigrationContext.configure(connection, opts={"version_table": VERSION_TABLE})
    revision = context.get_current_revision()
    if revision is None:
        tables = set(inspect(connection).get_table_names()) - {VERSION_TABLE}
        return (SchemaState.FOREIGN if tables else SchemaState.EMPTY), None
    if revision == head():
        return SchemaState.CURRENT, revision
    known = {script.revision for script in ScriptDirectory.from_config(_config(None)).walk_revisions()}
    return (SchemaState.OUTDATED if revision in known else SchemaState.NEWER), revision


def _refuse_unusable(database: Database, state: SchemaState, revision: str | None) -> None:
    if state is SchemaState.NEWER:
        raise NewerSchemaError(
            f"The database {database.describe()} is at schema revision {revision}, which this relab does not know: "
            "a newer version made it.",
            remedy="Start that version, or point DATABASE_URL at another database.",
        )
    if state is SchemaState.FOREIGN:
        raise ForeignDatabaseError(
            f"The database {database.describe()} holds tables but none of relab's.",
            remedy="Point DATABASE_URL at an empty database; relab does not share one.",
        )


def _config(connection: Connection | None) -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations").replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    return config


@contextmanager
def _migration_connection(database: Database) -> Iterator[Connection]:
    """Hold the lock of migrations and a connection whose transaction ends with the block."""
    if database.is_sqlite:
        lock_path = Path(str(database.engine.url.database) + ".migrate.lock")
        with lock_path.open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            with (
                database.engine.connect().execution_options(**{WRITE_OPTION: True}) as connection,
                connection.begin(),
            ):
                yield connection
        return
    with database.engine.connect() as connection, connection.begin():
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _ADVISORY_LOCK})
        yield connection

"""Migrate a database to the schema of this version, and reject a database that does not fit.

SQLite is migrated at start, under a file lock, because it belongs to one installation.
PostgreSQL is migrated only by `lab db upgrade`, because several processes share it.
"""

from __future__ import annotations

import fcntl
import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import Connection, inspect, text

from relab.core.errors import ConfigurationError, InvalidInputError
from relab.storage.database import Database, translate_errors
from relab.storage.engine import DURABLE, WRITE_OPTION
from relab.storage.errors import ForeignDatabaseError, NewerSchemaError, OutdatedSchemaError

VERSION_TABLE = "relab_alembic_version"
_ADVISORY_LOCK = 0x72656C6162  # "relab" in ASCII: one migration at a time on PostgreSQL


class SchemaState(StrEnum):
    """The state of a database's schema compared with this version of relab."""

    EMPTY = "empty"
    CURRENT = "current"
    OUTDATED = "outdated"
    NEWER = "newer"
    FOREIGN = "foreign"


def schema_state(database: Database) -> tuple[SchemaState, str | None]:
    """Return the state of the schema and the stored revision (None if there is none)."""
    with database.read() as session:
        return _state(session.connection())


def require_current(database: Database) -> None:
    """Check that the schema fits this version.

    Raises:
        NewerSchemaError, OutdatedSchemaError, ForeignDatabaseError: the schema does not fit; the error has a remedy.
    """
    state, revision = schema_state(database)
    _refuse_unusable(database, state, revision)
    if state is not SchemaState.CURRENT:
        raise OutdatedSchemaError(
            f"The database {database.describe()} is at schema revision {revision or 'none'}; this relab needs {head()}.",
            remedy="Run `lab db upgrade`.",
        )


def upgrade(database: Database, revision: str = "head") -> None:
    """Migrate up to `revision`, one process at a time; do nothing if the database has this revision.

    Raises:
        NewerSchemaError, ForeignDatabaseError: this version of relab must not migrate the database.
        InvalidInputError: there is no such revision.
        DatabaseUnavailableError: the database cannot be reached.
    """
    _migrate(database, command.upgrade, revision)


def downgrade(database: Database, revision: str) -> None:
    """Migrate down to `revision` (`base` empties the database).

    Raises:
        NewerSchemaError, ForeignDatabaseError: this version of relab must not migrate the database.
        InvalidInputError: there is no such revision.
        DatabaseUnavailableError: the database cannot be reached.
    """
    _migrate(database, command.downgrade, revision)


def prepare(database: Database) -> None:
    """Make the database usable at start: migrate SQLite, check PostgreSQL.

    Raises:
        SchemaError: the schema does not fit and must not be migrated at start.
        DatabaseUnavailableError: the database cannot be reached.
    """
    if database.is_sqlite and schema_state(database)[0] is not SchemaState.CURRENT:
        upgrade(database)
    require_current(database)


def head() -> str:
    """Return the newest schema revision of this version."""
    return _revisions()[0]


@functools.cache
def _revisions() -> tuple[str, ...]:
    """Return the schema revisions of this version, newest first; cached for readiness probes."""
    scripts = ScriptDirectory.from_config(_config(None))
    return tuple(script.revision for script in scripts.walk_revisions())


def _migrate(database: Database, step: Callable[[Config, str], None], revision: str) -> None:
    with translate_errors(), _migration_connection(database) as connection:
        state, stored = _state(connection)
        _refuse_unusable(database, state, stored)
        try:
            step(_config(connection), revision)
        except CommandError as error:
            raise InvalidInputError(
                f"The schema cannot be migrated to {revision!r}: {error}.",
                remedy=f"The revisions of this version are {', '.join(_revisions())}, base.",
            ) from error


def _state(connection: Connection) -> tuple[SchemaState, str | None]:
    context = MigrationContext.configure(connection, opts={"version_table": VERSION_TABLE})
    revision = context.get_current_revision()
    if revision is None:
        tables = set(inspect(connection).get_table_names()) - {VERSION_TABLE}
        return (SchemaState.FOREIGN if tables else SchemaState.EMPTY), None
    if revision == head():
        return SchemaState.CURRENT, revision
    return (SchemaState.OUTDATED if revision in _revisions() else SchemaState.NEWER), revision


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
    """Acquire the migration lock and open a connection with a transaction that ends with the block."""
    if database.is_sqlite:
        with (
            _file_lock(Path(str(database.engine.url.database) + ".migrate.lock")),
            database.engine.connect().execution_options(**{WRITE_OPTION: DURABLE}) as connection,
            _foreign_keys_off(connection),
            connection.begin(),
        ):
            yield connection
        return
    with database.engine.connect() as connection, connection.begin():
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _ADVISORY_LOCK})
        yield connection


@contextmanager
def _file_lock(path: Path) -> Iterator[None]:
    try:
        lock = path.open("w")
    except OSError as error:
        raise ConfigurationError(
            f"The lock file {path} cannot be written: {error.strerror}.",
            remedy="Give this user the right to write in that folder, or point DATABASE_URL elsewhere.",
        ) from error
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@contextmanager
def _foreign_keys_off(connection: Connection) -> Iterator[None]:
    """Disable foreign keys while a migration runs: if they are on, dropping a rebuilt table deletes its child rows.

    SQLite ignores this pragma inside a transaction, so it must be set before the transaction.
    Source: https://www.sqlite.org/lang_altertable.html#otheralter
    """
    driver = connection.connection.driver_connection
    if driver is None:
        raise RuntimeError("a connection that is open has a driver connection")
    driver.execute("PRAGMA foreign_keys=OFF")
    try:
        yield
    finally:
        driver.execute("PRAGMA foreign_keys=ON")

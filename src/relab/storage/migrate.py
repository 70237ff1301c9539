"""Migrate a database to the schema of this version.

SQLite is migrated at start, under a file lock, because it belongs to one installation.
PostgreSQL is migrated only by `lab db upgrade`, because several processes share it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.util import CommandError
from sqlalchemy import Connection, text

from relab.core.errors import ConfigurationError, InvalidInputError
from relab.core.file_locks import file_lock
from relab.storage.database import Database, translate_errors
from relab.storage.engine import DURABLE, WRITE_OPTION
from relab.storage.schema import reject_unusable, revisions, state_of

_ADVISORY_LOCK = 0x72656C6162  # "relab" in ASCII: one migration at a time on PostgreSQL


def upgrade(database: Database, revision: str = "head") -> None:
    """Migrate a database up to a revision; do nothing if it already has this revision or a later one.

    Args:
        database: the database. Concurrent processes migrate it one after the other.
        revision: such as `0008`; `head` is the newest one.

    Raises:
        NewerSchemaError: a newer version of relab made the schema.
        ForeignDatabaseError: the database contains tables of another program, and none of relab.
        InvalidInputError: the revision does not exist.
        ConfigurationError: the file for the lock of a SQLite migration cannot be written.
        DatabaseUnavailableError: the database cannot be reached.
    """
    _migrate(database, command.upgrade, revision)


def downgrade(database: Database, revision: str) -> None:
    """Migrate a database down to an earlier revision; `base` removes all tables but the one that stores the revision.

    Raises:
        NewerSchemaError: a newer version of relab made the schema.
        ForeignDatabaseError: the database contains tables of another program, and none of relab.
        InvalidInputError: the revision does not exist, or is later than the present one.
        ConfigurationError: the file for the lock of a SQLite migration cannot be written.
        DatabaseUnavailableError: the database cannot be reached.
        ConflictError: the stored data does not fit the earlier revision; the error says what to do first.
    """
    _migrate(database, command.downgrade, revision)


def _migrate(database: Database, step: Callable[[Config, str], None], revision: str) -> None:
    with translate_errors(), database.disk.watching(), _migration_connection(database) as connection:
        state, stored = state_of(connection)
        reject_unusable(database, state, stored)
        try:
            step(_config(connection), revision)
        except CommandError as error:
            raise InvalidInputError(
                f"The schema cannot be migrated to {revision!r}: {error}.",
                remedy=f"The revisions of this version are {', '.join(revisions())}, base.",
            ) from error


def _config(connection: Connection | None) -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations").replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    return config


@contextmanager
def _migration_connection(database: Database) -> Iterator[Connection]:
    """Return a context manager that holds the migration lock, and gives a connection with an open transaction.

    The transaction is committed when the block ends without an error.
    """
    if database.is_sqlite:
        with (
            _migration_lock(Path(str(database.engine.url.database) + ".migrate.lock")),
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
def _migration_lock(path: Path) -> Iterator[None]:
    with ExitStack() as held:
        try:
            # Users who share a database by their group share its lock, too.
            held.enter_context(file_lock(path, mode=0o666))
        except OSError as error:
            raise ConfigurationError(
                f"The lock file {path} cannot be written: {error.strerror}.",
                remedy="Give this user write permission for the folder, or point DATABASE_URL at another database.",
            ) from error
        yield


@contextmanager
def _foreign_keys_off(connection: Connection) -> Iterator[None]:
    """Return a context manager that disables SQLite's foreign keys while its block runs a migration.

    The transaction must begin inside the block, because SQLite ignores the switch during a transaction.
    Source: https://www.sqlite.org/lang_altertable.html#otheralter
    """
    driver = connection.connection.driver_connection
    if driver is None:
        raise RuntimeError("a connection that is open has a driver connection")
    # A migration drops a table that it has rebuilt; with foreign keys on, this would delete the rows that refer to it.
    driver.execute("PRAGMA foreign_keys=OFF")
    try:
        yield
    finally:
        driver.execute("PRAGMA foreign_keys=ON")

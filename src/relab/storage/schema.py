"""The state of a database's schema compared with this version of relab.

Every process checks the schema at its start, so the check does not use Alembic, which takes time to load. Only a
migration (`migrate.py`) loads Alembic.
"""

from __future__ import annotations

import functools
from enum import StrEnum
from pathlib import Path

from sqlalchemy import Connection, inspect, text

from relab.storage.database import Database
from relab.storage.errors import ForeignDatabaseError, NewerSchemaError, OutdatedSchemaError

VERSION_TABLE = "relab_alembic_version"


class SchemaState(StrEnum):
    """The state of a database's schema compared with this version of relab."""

    EMPTY = "empty"
    """The database has no tables."""
    CURRENT = "current"
    OUTDATED = "outdated"
    """An older version of relab made the schema; it can be migrated."""
    NEWER = "newer"
    """A newer version of relab made the schema."""
    FOREIGN = "foreign"
    """The database has tables, but none of relab."""


def schema_state(database: Database) -> tuple[SchemaState, str | None]:
    """Return the state of a database's schema, and the stored schema revision (None if the database stores none)."""
    with database.read() as session:
        return state_of(session.connection())


def require_current(database: Database) -> None:
    """Check that the schema of a database is the one for this version of relab.

    Raises:
        NewerSchemaError: a newer version of relab made the schema.
        OutdatedSchemaError: the schema is older, or the database is empty.
        ForeignDatabaseError: the database has tables, but none of relab.
    """
    state, revision = schema_state(database)
    reject_unusable(database, state, revision)
    if state is not SchemaState.CURRENT:
        raise OutdatedSchemaError(
            f"The database {database.describe()} is at schema revision {revision or 'none'}; this relab needs {head()}.",
            remedy="Run `lab db upgrade`.",
        )


def head() -> str:
    """Return the newest schema revision of this version of relab, such as `0008`."""
    return revisions()[0]


@functools.cache
def revisions() -> tuple[str, ...]:
    """Return the schema revisions of this version of relab, newest first.

    They are the numbers with which the names of the migration files begin.
    """
    folder = Path(__file__).parent / "migrations" / "versions"
    return tuple(sorted((path.name[:4] for path in folder.glob("[0-9][0-9][0-9][0-9]_*.py")), reverse=True))


def state_of(connection: Connection) -> tuple[SchemaState, str | None]:
    """Return the state of the schema of a connected database, and the stored revision (None if it stores none)."""
    found = inspect(connection)
    revision: str | None = None
    if found.has_table(VERSION_TABLE):
        statement = text(f"SELECT version_num FROM {VERSION_TABLE}")  # noqa: S608 a constant
        revision = connection.execute(statement).scalar_one_or_none()
    if revision is None:
        tables = set(found.get_table_names()) - {VERSION_TABLE}
        return (SchemaState.FOREIGN if tables else SchemaState.EMPTY), None
    if revision == head():
        return SchemaState.CURRENT, revision
    return (SchemaState.OUTDATED if revision in revisions() else SchemaState.NEWER), revision


def reject_unusable(database: Database, state: SchemaState, revision: str | None) -> None:
    """Raise an error if this version of relab can neither use nor migrate a database.

    Args:
        database: the database, for the message of the error.
        state: the state of the database's schema.
        revision: the revision that is stored in the database; None if it stores none.

    Raises:
        NewerSchemaError: a newer version of relab made the schema.
        ForeignDatabaseError: the database contains tables of another program, and none of relab.
    """
    if state is SchemaState.NEWER:
        raise NewerSchemaError(
            f"The database {database.describe()} is at schema revision {revision}, which is newer than this version "
            "of relab.",
            remedy="Start the newer version, or point DATABASE_URL at another database.",
        )
    if state is SchemaState.FOREIGN:
        raise ForeignDatabaseError(
            f"The database {database.describe()} contains tables of another program and no tables of relab.",
            remedy="Point DATABASE_URL at an empty database; relab does not share one.",
        )

"""Databases with the current schema, copied from a template, because migrations take much longer."""

from __future__ import annotations

import contextlib
import functools
import secrets
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

import psycopg

from relab.storage import Database
from relab.storage.migrate import upgrade
from relab.storage.schema import SchemaState, schema_state
from rig.servers import PostgresServer

_TEMPLATE = "migrated_template"
_of_file: list[tuple[PostgresServer, str]] = []
"""The databases that the tests of the current file have created."""


def migrate(database: Database) -> None:
    """Create the current schema in a new database; a missing SQLite file becomes a copy of the template."""
    path = Path(str(database.engine.url.database))
    if database.is_sqlite and not path.exists():
        path.write_bytes(_sqlite_template())
    elif schema_state(database)[0] is not SchemaState.CURRENT:
        upgrade(database)


def prepare_home(home: Path, settings: Mapping[str, str]) -> None:
    """Create the SQLite database of a home as its first command would: a copy of the template, unless there is one.

    Args:
        home: the folder; if it does not exist, nothing is done.
        settings: of the commands; with a DATABASE_URL nothing is done.
    """
    path = home / "relab.db"
    if home.is_dir() and not path.exists() and "DATABASE_URL" not in settings:
        # The file gets its name only when it is complete, because another command may start in this home.
        copy = home / f"relab.db.{secrets.token_hex(4)}"
        copy.write_bytes(_sqlite_template())
        with contextlib.suppress(FileExistsError):
            path.hardlink_to(copy)
        copy.unlink()


def create_migrated(server: PostgresServer, name: str, *, kept: bool = False) -> str:
    """Create a PostgreSQL database with the current schema and return its URL.

    Args:
        kept: whether the database outlives the test file that creates it (see `drop_databases_of_file`).
    """
    if not kept:
        _of_file.append((server, name))
    try:
        return server.create_database(name, template=_TEMPLATE)
    except psycopg.errors.InvalidCatalogName:
        # The template is migrated under another name, so that a failure leaves no template without the schema.
        building = f"{_TEMPLATE}_{secrets.token_hex(4)}"
        template = Database.open(server.create_database(building))
        upgrade(template)
        template.close()
        with psycopg.connect(server.url("postgres"), autocommit=True) as connection:
            connection.execute(f'ALTER DATABASE "{building}" RENAME TO "{_TEMPLATE}"')
        return server.create_database(name, template=_TEMPLATE)


def create_empty(server: PostgresServer, name: str, *, template: str = "template1") -> str:
    """Create a PostgreSQL database for the tests of one file and return its URL; it has the tables of the template."""
    _of_file.append((server, name))
    return server.create_database(name, template=template)


def drop_databases_of_file() -> None:
    """Drop the databases of a test file on the servers that still run, to free their memory."""
    by_server: dict[int, tuple[PostgresServer, list[str]]] = {}
    for server, name in _of_file:
        if server.process is not None:
            by_server.setdefault(server.port, (server, []))[1].append(name)
    _of_file.clear()
    for server, names in by_server.values():
        server.drop_databases(names)


@functools.cache
def _sqlite_template() -> bytes:
    """Return the content of a migrated SQLite file."""
    with TemporaryDirectory(prefix="relab-template-") as folder:
        path = Path(folder, "template.db")
        database = Database.open(f"sqlite:///{path}")
        upgrade(database)
        # Closing the last connection moves the write-ahead log into the file.
        database.close()
        return path.read_bytes()

"""Engines for SQLite and PostgreSQL, configured so that both behave alike.

No function here connects: the first transaction opens the first connection.
"""

from __future__ import annotations

import random
import sqlite3
import time
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from sqlalchemy import URL, Connection, Engine, ExceptionContext, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError

from relab.core.errors import ConfigurationError
from relab.core.json import canonical_json

SQLITE_BUSY_TIMEOUT_MS = 15_000
SQLITE_CHECKPOINT_PAGES = 4_000
"""The size of the write-ahead log, in pages of 4 KB, from which on a commit copies the log into the database file. With
SQLite's default of 1,000 pages, each commit of spans would copy it: pages that several commits change would be copied,
and both files synchronized, each time."""
SILENT_PEER: Final[Mapping[str, int]] = MappingProxyType(
    {
        "connect_timeout": 5,
        "keepalives_idle": 10,
        "keepalives_interval": 5,
        "keepalives_count": 3,
        "tcp_user_timeout": 30_000,
    }
)
"""Connection parameters of libpq, in seconds, the last one in ms, by which a server that stops answering counts as
unreachable within half a minute."""

WRITE_OPTION = "relab_write"
"""The execution option of write transactions; its values are `DURABLE` and `RELAXED`."""
DURABLE = "durable"
RELAXED = "relaxed"


def parse_url(text: str) -> URL:
    """Parse a database URL and return it; a plain `postgresql://` or `postgres://` gets the psycopg 3 driver.

    The path of a SQLite file is made absolute, with `~` expanded.

    Raises:
        ConfigurationError: the text is not the URL of a SQLite file or of a PostgreSQL database. The text may contain a
            password, so the message repeats at most its scheme.
    """
    remedy = "Use sqlite:///path/to/relab.db or postgresql://user:password@host:5432/name."
    try:
        url = make_url(text)
    except (ArgumentError, ValueError):
        # Suppress the cause: a "port" that is not a number may be a part of a password.
        raise ConfigurationError("DATABASE_URL is not a database URL.", remedy=remedy) from None
    if "@" in (url.host or ""):
        raise ConfigurationError(
            "DATABASE_URL contains more than one '@'.", remedy="Write an '@' inside the password as %40."
        )
    if url.drivername in {"postgres", "postgresql", "postgresql+psycopg"}:
        return url.set(drivername="postgresql+psycopg")
    if url.drivername in {"sqlite", "sqlite+pysqlite"}:
        if not url.database or url.database == ":memory:" or url.database.startswith("file:"):
            raise ConfigurationError(
                "DATABASE_URL names no SQLite file; several processes cannot share an in-memory database.",
                remedy=remedy,
            )
        path = Path(url.database).expanduser().absolute()
        return url.set(drivername="sqlite+pysqlite", database=str(path))
    raise ConfigurationError(f"DATABASE_URL has the unsupported scheme {url.drivername!r}.", remedy=remedy)


def create_database_engine(url: URL, *, pool_size: int = 10) -> Engine:
    """Return an SQLAlchemy engine for a URL from `parse_url`, without connecting to the database.

    Args:
        url: the URL of a SQLite file or a PostgreSQL database.
        pool_size: the number of connections that are kept open. If all are in use, up to `pool_size` more are opened.

    Raises:
        ConfigurationError: the folder of the SQLite file cannot be created.
    """
    if url.get_backend_name() == "sqlite":
        _make_folder(Path(str(url.database)).parent)
        engine = create_engine(
            url,
            pool_size=pool_size,
            max_overflow=pool_size,
            json_serializer=canonical_json,
            # Driver errors are logged, and the bound values include tokens and personal data.
            hide_parameters=True,
            connect_args={"timeout": SQLITE_BUSY_TIMEOUT_MS / 1_000, "check_same_thread": False},
        )
        event.listen(engine, "connect", _prepare_sqlite)
        # With IMMEDIATE, because a deferred transaction fails at once if another process wrote between its read and its
        # write.
        event.listen(engine, "begin", _begin_sqlite)
        return engine
    engine = create_engine(
        url,
        pool_size=pool_size,
        max_overflow=pool_size,
        pool_pre_ping=True,
        json_serializer=canonical_json,
        hide_parameters=True,
        connect_args={"application_name": "relab", **SILENT_PEER},
    )
    event.listen(engine, "begin", _begin_postgresql)
    event.listen(engine, "handle_error", _raise_interruption)
    return engine


def _raise_interruption(context: ExceptionContext) -> None:
    """Raise the KeyboardInterrupt that a driver error hides; do nothing if the error hides none.

    Ctrl-C can interrupt the check of a pooled connection. SQLAlchemy then resets the connection while it is in use, and
    the driver raises an error about that.
    """
    interruption = context.original_exception.__context__
    if isinstance(interruption, KeyboardInterrupt):
        raise interruption


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigurationError(
            f"The folder {folder} of the database cannot be created: {error.strerror}.",
            remedy="Point DATABASE_URL or RELAB_HOME at a folder that this user can write.",
        ) from error


def _prepare_sqlite(connection: sqlite3.Connection, _record: Any) -> None:
    # The driver must not begin transactions by itself; `_begin_sqlite` does.
    connection.isolation_level = None
    cursor = connection.cursor()
    _enter_wal(cursor)
    for pragma in (
        f"busy_timeout={SQLITE_BUSY_TIMEOUT_MS}",
        "synchronous=FULL",
        "foreign_keys=ON",
        "temp_store=MEMORY",
        f"wal_autocheckpoint={SQLITE_CHECKPOINT_PAGES}",
    ):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _enter_wal(cursor: sqlite3.Cursor) -> None:
    """Set a SQLite file to WAL mode; retry while another process sets this mode."""
    # SQLite takes this wait for a deadlock: it returns "locked" at once, whatever the busy timeout.
    cursor.execute("PRAGMA busy_timeout=0")
    deadline = time.monotonic() + SQLITE_BUSY_TIMEOUT_MS / 1_000
    while True:
        try:
            cursor.execute("PRAGMA journal_mode=WAL")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() >= deadline:
                raise
            time.sleep(random.uniform(0.001, 0.003))  # noqa: S311 spreads the looks of several processes
        else:
            return


def _begin_sqlite(connection: Connection) -> None:
    kind = connection.get_execution_options().get(WRITE_OPTION)
    if kind is None:
        connection.exec_driver_sql("BEGIN")
        return
    connection.exec_driver_sql(f"PRAGMA synchronous={'FULL' if kind == DURABLE else 'NORMAL'}")
    _begin_immediate(connection)


def _begin_immediate(connection: Connection) -> None:
    """Acquire SQLite's write lock; while another process holds it, retry every one to three milliseconds."""
    driver = connection.connection.driver_connection
    assert isinstance(driver, sqlite3.Connection)
    deadline = time.monotonic() + SQLITE_BUSY_TIMEOUT_MS / 1_000
    # SQLite's own busy handler sleeps up to 100 ms, so a rare writer would starve beside a continuous one.
    driver.execute("PRAGMA busy_timeout=0")
    try:
        while time.monotonic() < deadline:
            try:
                driver.execute("BEGIN IMMEDIATE")
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY:
                    break
                time.sleep(random.uniform(0.001, 0.003))  # noqa: S311 spreads the looks of several processes
            else:
                return
        # After the timeout or another error, try once more through SQLAlchemy, so that it raises its own error class.
        connection.exec_driver_sql("BEGIN IMMEDIATE")
    finally:
        driver.execute(f"PRAGMA busy_timeout={SQLITE_BUSY_TIMEOUT_MS}")


def _begin_postgresql(connection: Connection) -> None:
    if connection.get_execution_options().get(WRITE_OPTION) == RELAXED:
        connection.exec_driver_sql("SET LOCAL synchronous_commit TO OFF")

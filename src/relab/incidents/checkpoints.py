"""Storage for the checkpoints of incidents' graphs: a separate SQLite file, or a schema in the PostgreSQL database."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import sqlite3
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import aiosqlite
from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver

from relab.core.errors import ConfigurationError
from relab.storage import Database
from relab.storage.engine import SILENT_PEER
from relab.storage.errors import DatabaseUnavailableError

if TYPE_CHECKING:
    from psycopg import AsyncConnection
    from psycopg.rows import DictRow

SCHEMA: Final = "relab_checkpoints"
FILE: Final = "checkpoints.db"
_LOCK_FILE: Final = f"{FILE}.lock"
_LOCK: Final = 7_205_759_403
"""The id of the advisory lock for creating the tables: a number that other software is unlikely to use."""
_RECHECK_S: Final = 0.2
_CONNECTIONS: Final = 4


def is_outage(error: BaseException) -> bool:
    """Return whether an error means that the database or the file of checkpoints is unavailable at present."""
    if isinstance(error, DatabaseUnavailableError):
        return True
    if isinstance(error, sqlite3.OperationalError):
        # SQLITE_ERROR is an invalid statement (for example, no such table), so waiting does not help.
        return getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) != sqlite3.SQLITE_ERROR
    psycopg: Any = sys.modules.get("psycopg")
    return psycopg is not None and isinstance(error, psycopg.OperationalError | psycopg.InterfaceError)


@asynccontextmanager
async def checkpoints(database: Database, home: Path) -> AsyncIterator[BaseCheckpointSaver[Any]]:
    """Yield the LangGraph saver that stores the states of incidents.

    Args:
        database: the database of the installation. If it is PostgreSQL, it also stores the states; if it is SQLite, a
            separate file stores them.
        home: the folder of that file, `checkpoints.db`.

    Raises:
        ConfigurationError: the database is PostgreSQL, and the packages for it are not installed, or its user has no
            right to create the schema.
        DatabaseUnavailableError: PostgreSQL cannot be reached, or the file cannot be opened.
    """
    # States are plain JSON, so the saver loads only plain values, even from manipulated data.
    serializer = JsonPlusSerializer(allowed_msgpack_modules=None)
    if not database.is_sqlite:
        async with _in_postgres(database, serializer) as saver:
            yield saver
        return
    await asyncio.to_thread(home.mkdir, parents=True, exist_ok=True)
    async with _opened(home / FILE) as connection:
        saver = AsyncSqliteSaver(connection, serde=serializer)
        with (home / _LOCK_FILE).open("ab") as lock:
            # Processes that switch one file to write-ahead logging at the same time do not wait but fail, so lock here.
            await asyncio.to_thread(fcntl.flock, lock, fcntl.LOCK_EX)
            with contextlib.suppress(sqlite3.OperationalError):
                # If the file cannot be used now, the saver's first use runs the setup again, and raises the error.
                await saver.setup()
        yield saver


async def delete_threads(database: Database, home: Path, thread_ids: Sequence[str]) -> None:
    """Delete the checkpoints (stored states for a restart) of some incidents.

    Args:
        database: the database of the installation.
        home: the folder of the checkpoint file if the database is SQLite.
        thread_ids: the ids of the incidents' checkpoints; unknown ids are ignored.

    Raises:
        DatabaseUnavailableError: the database or the checkpoint file cannot be used at present.
    """
    if database.is_sqlite and not (home / FILE).exists():
        return
    try:
        async with checkpoints(database, home) as saver:
            if isinstance(saver, AsyncSqliteSaver):
                # `adelete_thread` does not create the tables that it deletes from.
                await saver.setup()
            for thread_id in thread_ids:
                await saver.adelete_thread(thread_id)
    except Exception as error:
        if is_outage(error) and not isinstance(error, DatabaseUnavailableError):
            raise DatabaseUnavailableError(
                "The checkpoints of incidents cannot be used right now.", remedy="Try again later."
            ) from error
        raise


@asynccontextmanager
async def _opened(file: Path) -> AsyncIterator[aiosqlite.Connection]:
    try:
        connection = await aiosqlite.connect(file)
    except sqlite3.OperationalError as error:
        raise DatabaseUnavailableError(
            f"The file {file} for the checkpoints of incidents cannot be opened: {error}.",
            remedy="Check that it is a file which relab may write.",
        ) from error
    try:
        yield connection
    finally:
        await connection.close()


@asynccontextmanager
async def _in_postgres(database: Database, serializer: JsonPlusSerializer) -> AsyncIterator[BaseCheckpointSaver[Any]]:
    try:
        import psycopg
        from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver
        from psycopg.rows import dict_row
        from psycopg_pool import AsyncConnectionPool
    except ImportError as error:
        raise ConfigurationError(
            "Responding to incidents with PostgreSQL needs the extra `postgres`.",
            remedy="Install relab[postgres].",
        ) from error
    url = database.engine.url.set(drivername="postgresql").render_as_string(hide_password=False)
    options: dict[str, Any] = {
        "autocommit": True,
        **SILENT_PEER,
        "prepare_threshold": 0,
        "row_factory": dict_row,
        "options": f"-c search_path={SCHEMA}",
    }
    pool: AsyncConnectionPool[AsyncConnection[DictRow]] = AsyncConnectionPool(
        url,
        kwargs=options,
        min_size=1,
        max_size=_CONNECTIONS,
        open=False,
        # The pool replaces a connection that the server has closed before it is used.
        check=AsyncConnectionPool.check_connection,
    )
    try:
        async with await psycopg.AsyncConnection.connect(url, **options) as connection:
            await _make_tables(AsyncPostgresSaver(connection, serde=serializer), connection)
    except psycopg.OperationalError as error:
        raise DatabaseUnavailableError(
            "The database cannot be used right now for the checkpoints of incidents.",
            remedy="Check DATABASE_URL and that the server runs (`lab doctor`), then try again.",
        ) from error
    except psycopg.errors.InsufficientPrivilege as error:
        raise ConfigurationError(
            f"The user of DATABASE_URL may not create the schema {SCHEMA} for the checkpoints of incidents.",
            remedy=f"Have an administrator run: CREATE SCHEMA {SCHEMA} AUTHORIZATION the user.",
        ) from error
    async with pool:
        yield AsyncPostgresSaver(pool, serde=serializer)


async def _make_tables(saver: Any, connection: AsyncConnection[DictRow]) -> None:
    """Create the schema and the tables for checkpoints in PostgreSQL, one process at a time (advisory lock)."""
    # Poll for the lock: a statement that waits for it holds a snapshot, and CREATE INDEX CONCURRENTLY waits for that.
    while True:
        row = await (await connection.execute("SELECT pg_try_advisory_lock(%s) AS got", (_LOCK,))).fetchone()
        if row is not None and row["got"]:
            break
        await asyncio.sleep(_RECHECK_S)
    found = await connection.execute("SELECT 1 AS found FROM pg_namespace WHERE nspname = %s", (SCHEMA,))
    if await found.fetchone() is None:
        await connection.execute(f"CREATE SCHEMA {SCHEMA}")
    # The lock is released when the connection closes.
    await saver.setup()

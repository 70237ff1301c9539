"""The database interface of the services: read transactions, and units of work for writes."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Final

from sqlalchemy import Engine, text
from sqlalchemy.exc import DBAPIError, IntegrityError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from relab.storage.disk import DatabaseDisk
from relab.storage.engine import DURABLE, RELAXED, WRITE_OPTION, create_database_engine, parse_url
from relab.storage.errors import ConstraintError, DatabaseUnavailableError
from relab.storage.session import DatabaseSession


class UnitOfWork:
    """One write transaction, and the actions to run after its commit.

    Attributes:
        session: the session of the transaction.
    """

    def __init__(self, session: DatabaseSession) -> None:
        self.session: Final = session
        self._on_commit: list[Callable[[], None]] = []

    def on_commit(self, action: Callable[[], None]) -> None:
        """Register `action`: it runs after the commit, and does not run if the transaction fails.

        Use it only for wake-up signals: the action is lost if the process dies, so nothing may depend on it.
        """
        self._on_commit.append(action)

    def run_commit_actions(self) -> None:
        """Run the actions added by `on_commit`, in the order in which they were added."""
        for action in self._on_commit:
            action()


class Database:
    """Opens transactions on one database.

    Driver errors become `DatabaseUnavailableError` (unreachable, locked) or `ConstraintError`.

    Args:
        engine: the SQLAlchemy engine, made by `create_database_engine`.
        min_free_bytes: `check_writable` fails if the disk of the SQLite file has less free space.

    Attributes:
        is_sqlite: whether the database is SQLite; if False, it is PostgreSQL.
        disk: checks whether the database can be written, and names full disks, damaged files and files that were replaced.
    """

    def __init__(self, engine: Engine, *, min_free_bytes: int = 0) -> None:
        self.engine: Final = engine
        self.is_sqlite: Final = engine.dialect.name == "sqlite"
        self.disk: Final = DatabaseDisk(engine, min_free_bytes=min_free_bytes)
        # SQLite allows one writer; the threads of this process wait for this lock instead of polling the file lock.
        self._writer = threading.Lock() if self.is_sqlite else None
        # By default, each PostgreSQL statement reads a new snapshot: a run from before a write and its steps from
        # after it. A SQLite transaction always reads one snapshot.
        self._reader = (
            engine
            if self.is_sqlite
            else engine.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
        )
        self._durable_writer = engine.execution_options(**{WRITE_OPTION: DURABLE})
        self._relaxed_writer = engine.execution_options(**{WRITE_OPTION: RELAXED})

    @classmethod
    def open(cls, url: str, *, pool_size: int = 10, min_free_bytes: int = 0) -> Database:
        """Return the database with this URL, without connecting to it.

        Args:
            url: such as `sqlite:///path/to/relab.db` or `postgresql://user:password@host/name`.
            pool_size: number of connections that are kept open; as many more are opened if needed.
            min_free_bytes: `check_writable` fails if the disk of the SQLite file has less free space.

        Raises:
            ConfigurationError: the URL is not valid, or the folder of the SQLite file cannot be created.
        """
        return cls(create_database_engine(parse_url(url), pool_size=pool_size), min_free_bytes=min_free_bytes)

    @contextmanager
    def read(self) -> Iterator[DatabaseSession]:
        """Return a context manager that gives the session of a read-only transaction; all its reads see one snapshot.

        Raises:
            DiskFullError: the disk is full, and no other process has the SQLite database open. The first process that
                opens it must write a file.
            DatabaseDamagedError: the SQLite file is damaged, or is no SQLite database.
            DatabaseUnavailableError: the database cannot be used now.
        """
        with translate_errors(), self.disk.watching(), DatabaseSession(self._reader) as session:
            yield session

    @contextmanager
    def write(self, *, durable: bool = True) -> Iterator[UnitOfWork]:
        """Return a context manager that gives a write transaction; it commits if the block ends without an error.

        Args:
            durable: whether the commit waits for the disk. If False, a crash of the machine may lose the newest
                transactions; use it only for writes that are repeated, such as leases and progress.

        Raises:
            ConstraintError: a write violated a constraint; no write of the block was stored.
            DiskFullError: the disk of the database is full.
            DatabaseDamagedError: the SQLite file is damaged, or is no SQLite database.
            DatabaseUnavailableError: the database cannot be used now.
        """
        # Transactions are lost in commit order, so no later durable transaction remains without an earlier one.
        writer = self._durable_writer if durable else self._relaxed_writer
        with (
            self._writer or nullcontext(),
            translate_errors(),
            self.disk.watching(),
            DatabaseSession(writer) as session,
        ):
            unit = UnitOfWork(session)
            yield unit
            session.commit()
        unit.run_commit_actions()

    def ping(self) -> None:
        """Check that the database answers, by a round trip.

        Raises:
            DatabaseUnavailableError: the database cannot be used now.
        """
        with self.read() as session:
            session.execute(text("SELECT 1"))

    def check_writable(self) -> None:
        """Check that the database can be written; the result is cached for a second.

        On SQLite, the check writes without changing data. On PostgreSQL it does not write: it fails only if the disk
        was full at a write of this process in the last 30 seconds.

        Raises:
            DiskFullError: the disk is full or nearly full.
            DatabaseDamagedError: the SQLite file is damaged.
            DatabaseUnavailableError: a write fails for another reason.
        """
        with translate_errors():
            self.disk.check()

    def describe(self) -> str:
        """Return the database URL for messages, without its password and without options (they may contain one)."""
        return self.engine.url.set(query={}).render_as_string(hide_password=True)

    def close(self) -> None:
        """Close all pooled connections."""
        self.engine.dispose()


@contextmanager
def translate_errors() -> Iterator[None]:
    """Return a context manager that converts driver errors of its block to errors of relab.

    Driver errors of other kinds stay as they are, for example about an invalid SQL statement.

    Raises:
        ConstraintError: the block ended with the driver's error for a violated constraint.
        DatabaseUnavailableError: the block ended with a driver error because the database cannot be used now.
    """
    try:
        yield
    except PoolTimeoutError as error:
        raise DatabaseUnavailableError(
            "All connections to the database are in use.", remedy="Try again later."
        ) from error
    except (OperationalError, InterfaceError) as error:
        if getattr(error.orig, "sqlite_errorcode", None) == sqlite3.SQLITE_ERROR:
            # SQLite rejected the statement (for example: no such table), so a retry cannot succeed.
            raise
        code = getattr(error.orig, "sqlite_errorcode", None)
        raise DatabaseUnavailableError(
            f"The database cannot be used right now: {_first_line(error)}.",
            # The low byte of SQLite's error code is the kind of the error; the other bytes are details.
            remedy="Check that the file's folder exists and that this user may write there (RELAB_HOME, DATABASE_URL)."
            if code is not None and code & 0xFF in {sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY}
            else "Check DATABASE_URL and that the server runs (`lab doctor`), then try again.",
        ) from error
    except IntegrityError as error:
        raise ConstraintError(f"A constraint of the database was violated: {_first_line(error)}.") from error
    except DBAPIError as error:
        if error.connection_invalidated:
            raise DatabaseUnavailableError(
                "The connection to the database was lost.", remedy="Try again; the pool reconnects."
            ) from error
        raise


def _first_line(error: DBAPIError) -> str:
    lines = str(error.orig).strip().splitlines()
    return lines[0].rstrip(".") if lines else type(error.orig).__name__

"""The database as services see it: read transactions, and units of work that write."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Final

from sqlalchemy import Engine, text
from sqlalchemy.exc import DBAPIError, IntegrityError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.orm import Session

from relab.storage.disk import DatabaseDisk
from relab.storage.engine import DURABLE, RELAXED, WRITE_OPTION, create_database_engine, parse_url
from relab.storage.errors import ConstraintError, DatabaseUnavailableError


class UnitOfWork:
    """One write transaction, and what to do once it is durable.

    Attributes:
        session: the SQLAlchemy session of the transaction.
    """

    def __init__(self, session: Session) -> None:
        self.session: Final = session
        self._on_commit: list[Callable[[], None]] = []

    def on_commit(self, action: Callable[[], None]) -> None:
        """Run `action` after the commit, and not at all if there is none.

        For wake-up calls only: an action may be lost with the process, so nothing may depend on it.
        """
        self._on_commit.append(action)

    def run_commit_actions(self) -> None:
        """Run what `on_commit` collected, in order."""
        for action in self._on_commit:
            action()


class Database:
    """Opens transactions on one engine.

    Driver errors that mean "not now" (unreachable, locked, connection lost) leave here
    as `DatabaseUnavailableError`, and broken constraints as `ConstraintError`, so that
    services need not know the driver.
    """

    def __init__(self, engine: Engine, *, min_free_bytes: int = 0) -> None:
        self.engine: Final = engine
        self.is_sqlite: Final = engine.dialect.name == "sqlite"
        self.disk: Final = DatabaseDisk(engine, min_free_bytes=min_free_bytes)
        # SQLite has one writer; threads of this process queue here instead of polling the file lock.
        self._writer = threading.Lock() if self.is_sqlite else None
        # By default PostgreSQL shows each statement another state: a run's row from before and
        # its steps from after a write. A SQLite transaction is a snapshot anyway.
        self._reader = (
            engine
            if self.is_sqlite
            else engine.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
        )
        self._durable_writer = engine.execution_options(**{WRITE_OPTION: DURABLE})
        self._relaxed_writer = engine.execution_options(**{WRITE_OPTION: RELAXED})

    @classmethod
    def open(cls, url: str, *, pool_size: int = 10, min_free_bytes: int = 0) -> Database:
        """Make a database for `url` without connecting yet.

        With fewer than `min_free_bytes` on the disk of SQLite's file `check_writable` fails.

        Raises:
            ConfigurationError: the URL is not one of SQLite or PostgreSQL.
        """
        return cls(create_database_engine(parse_url(url), pool_size=pool_size), min_free_bytes=min_free_bytes)

    @contextmanager
    def read(self) -> Iterator[Session]:
        """Open a transaction that sees one state of the data and writes nothing.

        Raises:
            DatabaseUnavailableError: the database cannot be used right now.
        """
        with translate_errors(), Session(self._reader) as session:
            yield session

    @contextmanager
    def write(self, *, durable: bool = True) -> Iterator[UnitOfWork]:
        """Open a write transaction; it commits when the block ends without an error.

        A durable one survives power loss once this returns. Without `durable` the disk is not
        waited for: the transaction survives the death of any process of ours, but a machine (or
        a PostgreSQL server) that goes down may take the last ones back, in order, so that no
        later durable one stands without them. For what is done again anyway: leases, progress.

        Raises:
            ConstraintError: a write broke a constraint; nothing of the block was stored.
            DiskFullError: the disk of the database is full.
            DatabaseUnavailableError: the database cannot be used right now.
        """
        writer = self._durable_writer if durable else self._relaxed_writer
        with (
            self._writer or nullcontext(),
            translate_errors(),
            self.disk.watching(),
            Session(writer, expire_on_commit=False) as session,
        ):
            unit = UnitOfWork(session)
            yield unit
            session.commit()
        unit.run_commit_actions()

    def ping(self) -> None:
        """Make a round trip.

        Raises:
            DatabaseUnavailableError: the database cannot be used right now.
        """
        with self.read() as session:
            session.execute(text("SELECT 1"))

    def check_writable(self) -> None:
        """Make sure that a write is possible: one is made and committed, at most once a second.

        Raises:
            DiskFullError: the disk is full or nearly so, or this process has just failed to write because of that.
            DatabaseUnavailableError: a write fails for another reason.
        """
        with translate_errors():
            self.disk.check()

    def describe(self) -> str:
        """Name the database for people, without its password or options (which may hold one)."""
        return self.engine.url.set(query={}).render_as_string(hide_password=True)

    def close(self) -> None:
        """Close all pooled connections."""
        self.engine.dispose()


@contextmanager
def translate_errors() -> Iterator[None]:
    """Turn the driver's errors inside the block into relab's.

    Raises:
        ConstraintError: a constraint was broken.
        DatabaseUnavailableError: the database cannot be used right now.
    """
    try:
        yield
    except PoolTimeoutError as error:
        raise DatabaseUnavailableError(
            "All connections to the database are in use.", remedy="Try again when there is less to do."
        ) from error
    except (OperationalError, InterfaceError) as error:
        if getattr(error.orig, "sqlite_errorcode", None) == sqlite3.SQLITE_ERROR:
            # A statement that SQLite refuses (no such table): waiting does not help.
            raise
        raise DatabaseUnavailableError(
            f"The database cannot be used right now: {_first_line(error)}.",
            remedy="Check DATABASE_URL and that the server runs (`lab doctor`), then try again.",
        ) from error
    except IntegrityError as error:
        raise ConstraintError(f"A constraint of the database was broken: {_first_line(error)}.") from error
    except DBAPIError as error:
        if error.connection_invalidated:
            raise DatabaseUnavailableError(
                "The connection to the database was lost.", remedy="Try again; the pool reconnects by itself."
            ) from error
        raise


def _first_line(error: DBAPIError) -> str:
    lines = str(error.orig).strip().splitlines()
    return lines[0].rstrip(".") if lines else type(error.orig).__name__

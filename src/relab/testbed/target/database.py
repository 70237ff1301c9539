"""A worker's pool of connections to PostgreSQL.

The pool has a maximum size, counts the waits for a connection, and limits the time for which a request uses one.
"""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import psycopg
from sqlalchemy import URL, Connection, PoolProxiedConnection, QueuePool, create_engine, exc

from relab.testbed.target.errors import DatabaseError
from relab.testbed.target.recorder import WorkerRecorder
from relab.testbed.target.settings import DatabaseSettings

_UNAVAILABLE = frozenset({"08", "28", "3D", "53", "55", "57", "58", "XX"})
"""Classes (first two characters) of SQLSTATE for which the same request may succeed later."""
_RETRYABLE = frozenset({"40001", "40P01", "42501", "42P01", "25006"})


def connect_arguments(settings: DatabaseSettings, *, name: str) -> dict[str, Any]:
    """Return psycopg's keyword arguments for a connection to the shop's database.

    Args:
        settings: the address of the server, and the shop's user and password.
        name: the application name of the session, as the server lists it.
    """
    return {
        "host": settings.host,
        "port": settings.port,
        "user": settings.user,
        "password": settings.password.get_secret_value() if settings.password else None,
        "dbname": settings.name,
        # libpq accepts only whole seconds, at least 2.
        "connect_timeout": max(round(settings.connect_timeout_s), 2),
        "application_name": name,
        "options": f"-c statement_timeout={settings.statement_timeout_ms}",
        "sslmode": "disable",
        "gssencmode": "disable",
    }


class ShopDatabase:
    """The database connection pool of one worker. Its methods block, so call them from threads.

    Args:
        settings: the settings of the server and the pool.
        recorder: counts waits, time-outs and errors.
        worker: the worker's number, for the names of the sessions on the server.
    """

    def __init__(self, settings: DatabaseSettings, recorder: WorkerRecorder, *, worker: int) -> None:
        self._settings = settings
        self._recorder = recorder
        self._arguments = connect_arguments(settings, name=f"shop-{worker}")
        self._engine = create_engine(
            URL.create("postgresql+psycopg"),
            creator=lambda: psycopg.connect(**self._arguments),
            poolclass=QueuePool,
            pool_size=settings.pool_size,
            max_overflow=settings.max_overflow,
            pool_timeout=settings.pool_timeout_s,
            pool_recycle=settings.max_age_s,
        )
        self._reading = self._engine.execution_options(isolation_level="AUTOCOMMIT")
        self._lock = threading.Lock()
        self._pending = 0
        self._uses: dict[int, tuple[float, int]] = {}
        """Connections in use, by thread: the deadline for all of their statements together, and their descriptor."""
        self._cut: set[int] = set()

    def dispose(self) -> None:
        """Close the connections that are not checked out."""
        self._engine.dispose()

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """Return a context manager that gives a connection in autocommit mode: each statement is its own transaction.

        Raises:
            DatabaseError: the pool, the server or the connection fails.
        """
        with self._use(self._reading.connect) as connection:
            yield connection

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """Return a context manager that gives a connection in a transaction.

        The transaction is committed at the end of the block, or rolled back on any error.

        Raises:
            DatabaseError: the pool, the server or the connection fails.
        """
        with self._use(self._engine.connect) as connection, connection.begin():
            yield connection

    def check_out(self) -> PoolProxiedConnection:
        """Check a connection out of the pool and return it; the caller must close it.

        Raises:
            DatabaseError: the pool is exhausted, or a connection cannot be made.
        """
        with self._report_errors():
            return self._engine.raw_connection()

    def end_overdue(self, *, now_s: float) -> int:
        """Shut down the connections that are in use for too long (setting `read_timeout_s`); return their number.

        A use lasts from the check-out of the connection to its return; all statements in between share the time limit.

        Args:
            now_s: the current time of `time.monotonic`, in seconds.
        """
        with self._lock:
            # An unreachable server sends nothing, so threads and connections would wait for ever.
            overdue = [
                (key, fd) for key, (until_s, fd) in self._uses.items() if until_s <= now_s and key not in self._cut
            ]
            for key, descriptor in overdue:
                self._cut.add(key)
                # The waiting thread then reads the end of the stream, and `_use` closes the connection as broken.
                with suppress(OSError), socket.socket(fileno=os.dup(descriptor)) as line:
                    line.shutdown(socket.SHUT_RDWR)
        return len(overdue)

    def figures(self) -> dict[str, Any]:
        """Return the state of the connection pool as JSON.

        - `size`: number of connections that stay open.
        - `max_overflow`: number of further connections that may be opened.
        - `max`: the sum of these two.
        - `used`: number of connections in use.
        - `idle`: number of open connections that are not in use.
        - `pending`: number of requests that wait for a connection.
        - `timeout_s`: longest wait for a connection, in seconds.
        """
        pool = self._engine.pool
        assert isinstance(pool, QueuePool)
        # SQLAlchemy's overflow counter starts below zero, so report used and idle connections instead.
        return {
            "size": self._settings.pool_size,
            "max_overflow": self._settings.max_overflow,
            "max": self._settings.pool_max,
            "used": pool.checkedout(),
            "idle": pool.checkedin(),
            "pending": self._pending,
            "timeout_s": self._settings.pool_timeout_s,
        }

    @contextmanager
    def _use(self, connect: Any) -> Iterator[Connection]:
        key = threading.get_ident()
        with self._report_errors():
            connection = self._wait_for(connect)
            try:
                with self._lock:
                    driver: Any = connection.connection.driver_connection
                    self._uses[key] = (time.monotonic() + self._settings.patience_s, driver.fileno())
                yield connection
            except Exception as error:
                if key in self._cut:
                    message = f"no answer within {self._settings.patience_s:g} s; the connection was closed"
                    connection.invalidate()
                    self._recorder.event("db_errors")
                    raise DatabaseError(message) from error
                raise
            finally:
                with self._lock:
                    self._uses.pop(key, None)
                    self._cut.discard(key)
                connection.close()

    def _wait_for(self, connect: Any) -> Connection:
        began_s = time.perf_counter()
        with self._lock:
            self._pending += 1
        try:
            connection: Connection = connect()
        finally:
            with self._lock:
                self._pending -= 1
            self._recorder.wait((time.perf_counter() - began_s) * 1_000)
        return connection

    @contextmanager
    def _report_errors(self) -> Iterator[None]:
        try:
            yield
        except exc.TimeoutError as error:
            self._recorder.event("pool_timeouts")
            self._recorder.event("db_errors")
            raise DatabaseError(_first_line(error)) from error
        except (exc.DBAPIError, psycopg.Error, OSError) as error:
            self._recorder.event("db_errors")
            failure = as_database_error(error)
            if failure is None:
                raise
            raise failure from error


def as_database_error(error: Exception) -> DatabaseError | None:
    """Convert an error of the driver or of SQLAlchemy to a DatabaseError if the same request may succeed later.

    Return None for an error that would occur again, such as an error in the SQL statement.
    """
    original = error.orig if isinstance(error, exc.DBAPIError) else error
    sqlstate = getattr(original, "sqlstate", None)
    if sqlstate is None or sqlstate[:2] in _UNAVAILABLE or sqlstate in _RETRYABLE:
        return DatabaseError(_first_line(original or error), sqlstate=sqlstate or _sqlstate_in(str(original)))
    return None


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0].partition(" (Background on this error")[0] if lines else type(error).__name__


_WORDS = (
    ("password authentication failed", "28P01"),
    ("too many clients", "53300"),
    ("remaining connection slots", "53300"),
    ("too many connections", "53300"),
    ("the database system is", "57P03"),
    ("does not exist", "3D000"),
)


def _sqlstate_in(message: str) -> str | None:
    """Return the SQLSTATE that belongs to the error message of a failed connection; None for an unknown message."""
    # libpq passes on only the server's message of such an error, without its SQLSTATE.
    if "FATAL" not in message:
        return None
    return next((sqlstate for words, sqlstate in _WORDS if words in message), None)

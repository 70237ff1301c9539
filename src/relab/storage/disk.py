"""Check whether the database can be written: its disk has space, and its SQLite file is intact and still the same."""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Engine, event
from sqlalchemy.exc import DBAPIError

from relab.storage.errors import DatabaseDamagedError, DatabaseUnavailableError, DiskFullError

CHECK_STANDS_S = 1.0
"""Time for which the result of a check is cached, so that probes of several clients share one write."""
FAILURE_STANDS_S = 30.0
"""On PostgreSQL, a check fails for this time after a write failed because the disk was full: a test write would have
to grow a table."""
_POSTGRESQL_DISK_FULL = "53100"
_FULL = frozenset({sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR_WRITE, sqlite3.SQLITE_IOERR_SHMSIZE})
_DAMAGED = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})


class DatabaseDisk:
    """Checks whether the disk of one database has space for a write, and whether its SQLite file can still be used.

    Args:
        engine: the SQLAlchemy engine of the database.
        min_free_bytes: with less free space, the disk counts as full; only checked for SQLite, whose file is local.
        clock: returns monotonic seconds.
    """

    def __init__(self, engine: Engine, *, min_free_bytes: int = 0, clock: Callable[[], float] = time.monotonic) -> None:
        is_sqlite = engine.dialect.name == "sqlite"
        self._path: Final = Path(str(engine.url.database)) if is_sqlite else None
        self._place: Final = engine.url.set(query={}).render_as_string(hide_password=True)
        self._min_free_bytes: Final = min_free_bytes
        self._clock: Final = clock
        self._lock: Final = threading.Lock()
        self._checked_at: float | None = None
        self._found: Exception | None = None
        self._failed_at: float | None = None
        self._opened: tuple[int, int] | None = None
        if is_sqlite:
            event.listen(engine, "connect", self._remember_file)
            event.listen(engine, "engine_disposed", self._forget_file)

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Return a context manager that converts a driver's error about a full disk or a damaged SQLite file.

        Raises:
            DiskFullError: the block ended with a driver error about a full disk.
            DatabaseDamagedError: the block ended with a driver error about a file that is damaged or no SQLite database.
            DatabaseUnavailableError: the SQLite file was deleted or replaced since this process opened it; the block did
                not run.
        """
        if (gone := self._gone()) is not None:
            raise gone
        try:
            yield
        except DBAPIError as error:
            reason = str(error.orig).strip().partition("\n")[0].rstrip(".")
            if _is_damaged(error.orig):
                raise DatabaseDamagedError(str(self._path), reason=reason) from error
            if not self._is_full_disk(error.orig):
                raise
            self._failed_at = self._clock()
            raise self._error(reason) from error

    def check(self) -> None:
        """Check that a write is possible; the result is cached for a second.

        On PostgreSQL, this fails only if the disk was full at a write of this process in the last 30 seconds.

        Raises:
            DiskFullError: a write is not possible because the disk is full or nearly full.
            DatabaseDamagedError: the SQLite file is damaged.
            DatabaseUnavailableError: a write is not possible for another reason.
        """
        with self._lock:
            now = self._clock()
            if self._checked_at is None or now - self._checked_at >= CHECK_STANDS_S:
                self._found = self._try(now)
                self._checked_at = self._clock()
            if self._found is not None:
                raise self._found

    def _try(self, now: float) -> Exception | None:
        if self._path is None:
            # PostgreSQL reserves space for its log, so only a test write that grows a table could detect a full disk.
            is_recent = self._failed_at is not None and now - self._failed_at < FAILURE_STANDS_S
            return self._error("a write has just failed for that") if is_recent else None
        if (gone := self._gone()) is not None:
            return gone
        free = self._free_bytes()
        if free is not None and free < self._min_free_bytes:
            return self._error(f"less than {self._min_free_bytes:,} bytes are left (RELAB_STORAGE__MIN_FREE_DISK_MB)")
        try:
            with closing(sqlite3.connect(self._path, timeout=0, isolation_level=None)) as connection:
                _write(connection)
        except sqlite3.Error as error:
            return self._write_error(error)
        return None

    def _write_error(self, error: sqlite3.Error) -> Exception | None:
        """Return the error to raise for a failed test write; None if it failed only because another process writes."""
        if error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY:
            return None
        if _is_damaged(error):
            return DatabaseDamagedError(str(self._path), reason=str(error))
        if self._is_full_disk(error):
            return self._error(str(error))
        return DatabaseUnavailableError(
            f"The database {self._path} cannot be written: {error}.",
            remedy="Check that the file, its folder and its file system are writable (`lab doctor`).",
        )

    def _remember_file(self, _connection: Any, _record: Any) -> None:
        if self._opened is None:
            self._opened = self._present_file()

    def _forget_file(self, _engine: Engine) -> None:
        self._opened = None

    def _gone(self) -> DatabaseUnavailableError | None:
        """Return an error if the file at the database's path is not the one that this process opened, otherwise None."""
        # The open connections would still write to the deleted file, which disappears when they are closed.
        if self._opened is None or self._present_file() == self._opened:
            return None
        return DatabaseUnavailableError(
            f"The database {self._path} was deleted or replaced after this process had opened it.",
            remedy="Move the former file back, or restart this process, so that it uses the file that is there now.",
        )

    def _present_file(self) -> tuple[int, int] | None:
        """Return the device and number of the file at the database's path; None if there is no file."""
        assert self._path is not None
        try:
            found = os.stat(self._path)  # noqa: PTH116 for each transaction, and `Path.stat` takes twice the time
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError:
            # The path cannot be read any more, but the open file can.
            return self._opened
        return found.st_dev, found.st_ino

    def _error(self, reason: str) -> DiskFullError:
        return DiskFullError(str(self._path or self._place), free_bytes=self._free_bytes(), reason=reason)

    def _free_bytes(self) -> int | None:
        if self._path is None:
            return None
        try:
            found = os.statvfs(self._path.parent)
        except OSError:
            return None
        return found.f_bavail * found.f_frsize

    def _is_full_disk(self, error: BaseException | None) -> bool:
        if getattr(error, "sqlstate", None) == _POSTGRESQL_DISK_FULL:
            return True
        code = getattr(error, "sqlite_errorcode", None)
        if code in _FULL:
            return True
        # SQLite reports all I/O errors of its files with one code and loses the system's error.
        return code is not None and code & 0xFF == sqlite3.SQLITE_IOERR and self._free_bytes() == 0


def _is_damaged(error: BaseException | None) -> bool:
    code = getattr(error, "sqlite_errorcode", None)
    # The low byte is the kind of the error; the other bytes are details.
    return code is not None and code & 0xFF in _DAMAGED


def _write(connection: sqlite3.Connection) -> None:
    """Test whether a SQLite file can be written: write a page and commit it durably, without changing data."""
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute("BEGIN IMMEDIATE")
    try:
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        # This writes the first page of the file even if the number does not change.
        connection.execute(f"PRAGMA user_version={int(version)}")
    except BaseException:
        connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")

"""The disk check of the database: caches its result for a while, and recognises the disk-full error of each driver."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.exc import OperationalError

from relab.storage import Database
from relab.storage.disk import CHECK_STANDS_S, FAILURE_STANDS_S, DatabaseDisk
from relab.storage.errors import DatabaseDamagedError, DatabaseUnavailableError, DiskFullError
from support.storage.migrated import migrate


class Clock:
    """A clock whose seconds the test sets."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


class PostgresqlError(Exception):
    """An error as psycopg raises it, with the error code of the server."""

    sqlstate = "53100"


def driver_error(cause: Exception) -> OperationalError:
    return OperationalError("INSERT", {}, cause)


def test_check_writes_without_changing_the_schema_version(tmp_path: Path) -> None:
    database = Database.open(f"sqlite:///{tmp_path / 'relab.db'}")
    migrate(database)
    with sqlite3.connect(tmp_path / "relab.db") as connection:
        connection.execute("PRAGMA user_version=7")

    database.check_writable()

    with sqlite3.connect(tmp_path / "relab.db") as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (7,)
    database.close()


def test_too_little_free_space_is_a_full_disk_and_cached_for_a_second(tmp_path: Path) -> None:
    clock = Clock()
    engine = create_engine(f"sqlite:///{tmp_path / 'relab.db'}")
    disk = DatabaseDisk(engine, min_free_bytes=2**62, clock=clock)

    with pytest.raises(DiskFullError) as found:
        disk.check()
    assert found.value.code == "disk_full"
    assert "RELAB_STORAGE__MIN_FREE_DISK_MB" in str(found.value)
    with pytest.raises(DiskFullError) as again:
        disk.check()
    clock.now_s += CHECK_STANDS_S
    with pytest.raises(DiskFullError) as anew:
        disk.check()

    assert again.value is found.value
    assert anew.value is not found.value
    assert str(tmp_path / "relab.db") in found.value.message
    engine.dispose()


def test_database_that_cannot_be_written_is_reported(tmp_path: Path) -> None:
    # A folder in place of the database file: even root cannot write to it.
    (tmp_path / "relab.db").mkdir()
    engine = create_engine(f"sqlite:///{tmp_path / 'relab.db'}")

    with pytest.raises(DatabaseUnavailableError) as caught:
        DatabaseDisk(engine).check()
    assert type(caught.value) is DatabaseUnavailableError
    assert "cannot be written" in caught.value.message
    engine.dispose()


def test_lock_of_another_writer_is_not_a_failure(tmp_path: Path) -> None:
    path = tmp_path / "relab.db"
    writer = sqlite3.connect(path, isolation_level=None)
    writer.execute("PRAGMA journal_mode=WAL")
    writer.execute("BEGIN IMMEDIATE")
    engine = create_engine(f"sqlite:///{path}")

    DatabaseDisk(engine).check()

    writer.close()
    engine.dispose()


def test_disk_full_error_of_postgresql_makes_it_unwritable_for_a_while() -> None:
    clock = Clock()
    engine = create_engine("postgresql+psycopg://user:secret@db.example/relab")
    disk = DatabaseDisk(engine, clock=clock)
    disk.check()

    with pytest.raises(DiskFullError, match=r"db\.example") as found, disk.watching():
        raise driver_error(PostgresqlError('could not extend file "base/1": No space left on device'))
    clock.now_s += CHECK_STANDS_S
    with pytest.raises(DiskFullError):
        disk.check()
    clock.now_s += FAILURE_STANDS_S
    disk.check()

    assert "secret" not in found.value.message
    engine.dispose()


def test_other_errors_pass_unchanged(tmp_path: Path) -> None:
    engine = create_engine(f"sqlite:///{tmp_path / 'relab.db'}")
    error = driver_error(sqlite3.OperationalError("no such table: runs"))

    with pytest.raises(OperationalError) as found, DatabaseDisk(engine).watching():
        raise error

    assert found.value is error
    engine.dispose()


def test_check_reports_a_damaged_file(tmp_path: Path) -> None:
    (tmp_path / "relab.db").write_bytes(b"This text is no database. " * 200)
    engine = create_engine(f"sqlite:///{tmp_path / 'relab.db'}")

    with pytest.raises(DatabaseDamagedError, match=r"relab\.db is damaged"):
        DatabaseDisk(engine).check()


@pytest.mark.parametrize("successor", [None, b"", b"another file"], ids=["deleted", "emptied", "replaced"])
def test_file_that_was_replaced_is_not_used_any_more(tmp_path: Path, successor: bytes | None) -> None:
    path = tmp_path / "relab.db"
    database = Database.open(f"sqlite:///{path}")
    migrate(database)
    with database.write() as unit:
        unit.session.execute(text("INSERT INTO leases (name, owner, until) VALUES ('kept', 'me', 0)"))

    path.rename(tmp_path / "moved.db")
    if successor is not None:
        path.write_bytes(successor)

    for use in (database.read, database.write):
        with pytest.raises(DatabaseUnavailableError, match=r"was deleted or replaced.*restart"), use():
            pass
    with pytest.raises(DatabaseUnavailableError, match="was deleted or replaced"):
        database.check_writable()
    assert (path.read_bytes() if path.exists() else None) == successor
    database.close()


def test_file_may_be_replaced_while_no_connection_is_open(tmp_path: Path) -> None:
    path = tmp_path / "relab.db"
    database = Database.open(f"sqlite:///{path}")
    migrate(database)
    database.close()

    path.unlink()
    migrate(database)

    database.check_writable()
    database.close()

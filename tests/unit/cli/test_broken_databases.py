"""Commands whose database cannot be used: a damaged SQLite file, and a database of another program."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from support.lab.cli import Lab

EXIT_UNAVAILABLE = 69


def _replaced(path: Path) -> None:
    path.write_bytes(b"This text is no database, and longer than the header of one. " * 200)


def _cut(path: Path) -> None:
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size // 2)


def _overwritten(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(4_096)
        file.write(b"\xa5" * 60 * 4_096)


@pytest.mark.parametrize("damage", [_replaced, _cut, _overwritten])
def test_damaged_database_is_named_with_a_remedy(empty: Lab, damage: Callable[[Path], None]) -> None:
    empty.run("db", "upgrade")
    path = empty.home / "relab.db"
    damage(path)

    failed = empty.run("agent-runs", "list", "--json", code=EXIT_UNAVAILABLE)
    checks = {check["name"]: check for check in empty.run("doctor", "--json", code=EXIT_UNAVAILABLE).json["checks"]}

    assert failed.json["error"]["code"] == "database_damaged"
    assert f"The database {path} is damaged" in failed.json["error"]["message"]
    assert "restore the file from a backup" in failed.json["error"]["message"]
    assert failed.err == ""
    assert checks["database"]["state"] == "problem"
    assert f"The database {path} is damaged" in checks["database"]["found"]
    assert "restore the file from a backup" in checks["database"]["remedy"]


def test_doctor_reports_a_database_of_another_program(empty: Lab) -> None:
    with sqlite3.connect(empty.home / "relab.db") as connection:
        connection.execute("CREATE TABLE theirs (number INTEGER)")
    connection.close()

    checks = {check["name"]: check for check in empty.run("doctor", "--json", code=EXIT_UNAVAILABLE).json["checks"]}

    assert checks["schema"]["state"] == "problem"
    assert "tables of another program" in checks["schema"]["found"]
    assert checks["queue"]["state"] == "ok"
    assert "access" not in checks

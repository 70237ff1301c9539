"""Revision 0020 on a database with builds: it adds a unique source, and the downgrade loses no build or log."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from sqlalchemy import text

from relab.storage import Database
from relab.storage.errors import ConstraintError
from relab.storage.migrate import downgrade, upgrade

BUILD = "INSERT INTO builds (build_id, project, status, started_at, document) VALUES ('b', 'p', 'failed', 0, '{}')"


def add_twice(database: Database) -> None:
    columns = "build_id, project, status, started_at, document, source_key"
    rows = ", ".join(f"('{build_id}', 'p', 'failed', 0, '{{}}', 'same')" for build_id in ("c", "d"))
    with database.write() as unit:
        unit.session.execute(text(f"INSERT INTO builds ({columns}) VALUES {rows}"))


def test_source_is_unique_and_builds_with_logs_survive_the_downgrade(database_at: Callable[[str], Database]) -> None:
    database = database_at("0019")
    with database.write() as unit:
        unit.session.execute(text(BUILD))
        unit.session.execute(text("INSERT INTO build_logs (build_id, text) VALUES ('b', 'log')"))
    for _ in range(2):
        upgrade(database, "0020")
        with pytest.raises(ConstraintError):
            add_twice(database)
        downgrade(database, "0019")
        with database.read() as session:
            assert session.execute(text("SELECT count(*) FROM builds")).scalar_one() == 1
            assert session.execute(text("SELECT text FROM build_logs")).scalar_one() == "log"

"""Revision 0017 on a database with builds: it adds a table for decisions, and the downgrade loses no build."""

from __future__ import annotations

from collections.abc import Callable

from sqlalchemy import inspect, text

from relab.storage import Database
from relab.storage.migrate import downgrade, upgrade


def tables(database: Database) -> set[str]:
    with database.read() as session:
        return set(inspect(session.connection()).get_table_names())


def test_decision_table_is_added_and_builds_survive_the_downgrade(database_at: Callable[[str], Database]) -> None:
    database = database_at("0016")
    insert = "INSERT INTO builds (build_id, project, status, started_at, document) VALUES ('b', 'p', 'failed', 0, '{}')"
    with database.write() as unit:
        unit.session.execute(text(insert))
    for _ in range(2):
        upgrade(database, "0017")
        assert "build_decisions" in tables(database)
        downgrade(database, "0016")
        assert "build_decisions" not in tables(database)
        with database.read() as session:
            assert session.execute(text("SELECT count(*) FROM builds")).scalar_one() == 1

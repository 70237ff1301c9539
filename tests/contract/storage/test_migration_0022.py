"""Revision 0022 on a database with builds: it adds a table for suggestions, and the downgrade loses no build."""

from __future__ import annotations

from collections.abc import Callable

from sqlalchemy import inspect, text

from relab.storage import Database
from relab.storage.migrate import downgrade, upgrade

BUILD = "INSERT INTO builds (build_id, project, status, started_at, document) VALUES ('b', 'p', 'failed', 0, '{}')"
SUGGESTION = (
    "INSERT INTO build_suggestions (suggestion_id, project, state, suggested_at, document) "
    "VALUES ('s', 'p', 'open', 0, '{}')"
)


def test_suggestions_are_stored_and_builds_survive_the_downgrade(database_at: Callable[[str], Database]) -> None:
    database = database_at("0021")
    with database.write() as unit:
        unit.session.execute(text(BUILD))
    for _ in range(2):
        upgrade(database, "0022")
        with database.write() as unit:
            unit.session.execute(text(SUGGESTION))
            unit.session.execute(text("UPDATE builds SET failure_key = 'k'"))
        downgrade(database, "0021")
        with database.read() as session:
            assert session.execute(text("SELECT count(*) FROM builds")).scalar_one() == 1
            assert "build_suggestions" not in inspect(session.connection()).get_table_names()

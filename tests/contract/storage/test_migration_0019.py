"""Revision 0019 on a database with builds: it adds their folder, and the downgrade loses no build."""

from __future__ import annotations

from collections.abc import Callable

from sqlalchemy import inspect, text

from relab.storage import Database
from relab.storage.migrate import downgrade, upgrade


def columns(database: Database) -> set[str]:
    with database.read() as session:
        return {column["name"] for column in inspect(session.connection()).get_columns("builds")}


def test_builds_get_a_folder_and_survive_the_downgrade(database_at: Callable[[str], Database]) -> None:
    database = database_at("0018")
    insert = "INSERT INTO builds (build_id, project, status, started_at, document) VALUES ('b', 'p', 'failed', 0, '{}')"
    with database.write() as unit:
        unit.session.execute(text(insert))
    for _ in range(2):
        upgrade(database, "0019")
        with database.read() as session:
            assert session.execute(text("SELECT build_id, folder FROM builds")).all() == [("b", None)]
        downgrade(database, "0018")
        assert "folder" not in columns(database)
        with database.read() as session:
            assert session.execute(text("SELECT count(*) FROM builds")).scalar_one() == 1

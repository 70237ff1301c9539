"""Revision 0023 on a database with a rollout: it adds a table for stop requests; the downgrade drops nothing else."""

from __future__ import annotations

from collections.abc import Callable

from sqlalchemy import inspect, text

from relab.storage import Database
from relab.storage.migrate import downgrade, upgrade

_ROLLOUT = "INSERT INTO rollouts (rollout_id, target, status, is_job, created_at, document) VALUES ('r', 't', 'running', {}, 0, '{{}}')"
_STOP = "INSERT INTO rollout_stops (rollout_id, at, actor, note) VALUES ('r', 0, 'ann', '')"


def count(database: Database, table: str) -> int:
    with database.read() as session:
        return int(session.execute(text(f"SELECT count(*) FROM {table}")).scalar_one())


def test_stop_request_table_is_added_and_rollouts_survive_the_downgrade(database_at: Callable[[str], Database]) -> None:
    database = database_at("0022")
    with database.write() as unit:
        unit.session.execute(text(_ROLLOUT.format("true")))
    upgrade(database, "0023")
    with database.write() as unit:
        unit.session.execute(text(_STOP))

    downgrade(database, "0022")

    with database.read() as session:
        assert "rollout_stops" not in inspect(session.connection()).get_table_names()
    assert count(database, "rollouts") == 1
    upgrade(database, "0023")
    assert count(database, "rollout_stops") == 0


def test_request_to_stop_is_deleted_with_its_rollout(database_at: Callable[[str], Database]) -> None:
    database = database_at("0023")
    with database.write() as unit:
        unit.session.execute(text(_ROLLOUT.format("true")))
        unit.session.execute(text(_STOP))

    with database.write() as unit:
        unit.session.execute(text("DELETE FROM rollouts"))

    assert count(database, "rollout_stops") == 0

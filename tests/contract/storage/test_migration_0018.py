"""Revision 0018 on a database with builds: it adds counters and indexes, and the downgrade loses no build."""

from __future__ import annotations

from collections.abc import Callable

from sqlalchemy import inspect, text

from relab.storage import Database
from relab.storage.migrate import downgrade, upgrade

INDEXES = {
    "builds": "ix_builds_status_build_id",
    "rca_runs": "ix_rca_runs_status_category",
    "incidents": "ix_incidents_target_outcome",
    "incident_acts": "ix_incident_acts_target_status",
    "rollouts": "ix_rollouts_status_verdict",
}


def schema(database: Database) -> tuple[bool, set[str]]:
    """Return whether the table of counters exists, and which of `INDEXES` exist."""
    with database.read() as session:
        found = inspect(session.connection())
        names = {index["name"] for table in INDEXES for index in found.get_indexes(table)}
        return found.has_table("counters"), names & set(INDEXES.values())


def test_counters_and_indexes_are_added_and_builds_survive_the_downgrade(
    database_at: Callable[[str], Database],
) -> None:
    database = database_at("0017")
    insert = "INSERT INTO builds (build_id, project, status, started_at, document) VALUES ('b', 'p', 'failed', 0, '{}')"
    with database.write() as unit:
        unit.session.execute(text(insert))
    for _ in range(2):
        upgrade(database, "0018")
        assert schema(database) == (True, set(INDEXES.values()))
        downgrade(database, "0017")
        assert schema(database) == (False, set())
        with database.read() as session:
            assert session.execute(text("SELECT count(*) FROM builds")).scalar_one() == 1

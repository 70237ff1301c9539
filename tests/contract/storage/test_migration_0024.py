"""Revision 0024: it adds a table for failures of runs, and the downgrade loses no analysis."""

from __future__ import annotations

from collections.abc import Callable

from sqlalchemy import inspect, text

from relab.storage import Database
from relab.storage.migrate import downgrade, upgrade

FAILURE = (
    "INSERT INTO rca_failures (run_id, rca_run_id, cluster, category, line, agent_name, started_at) "
    "VALUES ('r', 'a', 'k', 'timeout', 'l', 'g', 0)"
)


def test_failures_are_stored_and_the_downgrade_drops_only_them(database_at: Callable[[str], Database]) -> None:
    database = database_at("0023")
    for _ in range(2):
        upgrade(database, "0024")
        with database.write() as unit:
            unit.session.execute(text(FAILURE))
        downgrade(database, "0023")
        with database.read() as session:
            names = inspect(session.connection()).get_table_names()
        assert "rca_failures" not in names
        assert "rca_runs" in names

"""Revision 0033: it adds a table for deleted agent runs of trials, and the downgrade drops nothing else."""

from __future__ import annotations

from collections.abc import Callable

from sqlalchemy import inspect, text

from relab.storage import Database
from relab.storage.migrate import downgrade, upgrade


def test_table_of_deleted_trial_runs_is_added_and_the_downgrade_drops_only_it(
    database_at: Callable[[str], Database],
) -> None:
    database = database_at("0032")
    with database.read() as session:
        before = set(inspect(session.connection()).get_table_names())
    for _ in range(2):
        upgrade(database, "0033")
        with database.write() as unit:
            unit.session.execute(text("INSERT INTO deleted_trial_runs (run_id, started_at) VALUES ('r', 1)"))
            after = set(inspect(unit.session.connection()).get_table_names())
        assert after - before == {"deleted_trial_runs"}
        downgrade(database, "0032")
        with database.read() as session:
            assert set(inspect(session.connection()).get_table_names()) == before

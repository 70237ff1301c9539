"""Revision 0030: notices of behaviours and the runs to be searched get tables, and the way back drops nothing else."""

from __future__ import annotations

from collections.abc import Callable

from sqlalchemy import inspect, text

from relab.storage import Database
from relab.storage.migrate import downgrade, upgrade

NEW = {"notice_posts", "notice_deliveries", "rca_behaviour_notices", "run_searches", "run_search_switch"}


def test_tables_come_and_go_alone(database_at: Callable[[str], Database]) -> None:
    database = database_at("0029")
    with database.read() as session:
        before = set(inspect(session.connection()).get_table_names())
    for _ in range(2):
        upgrade(database, "0030")
        with database.write() as unit:
            unit.session.execute(text("INSERT INTO run_searches (run_id, written_at) VALUES ('r', 1)"))
            after = set(inspect(unit.session.connection()).get_table_names())
        assert after - before == NEW
        downgrade(database, "0029")
    with database.read() as session:
        assert set(inspect(session.connection()).get_table_names()) == before

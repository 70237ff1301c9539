"""Revision 0030: it adds tables for behaviour notices and for runs to be searched; the downgrade drops nothing else."""

from __future__ import annotations

from collections.abc import Callable

from sqlalchemy import inspect, text

from relab.storage import Database
from relab.storage.migrate import downgrade, upgrade

NEW = {"notice_posts", "notice_deliveries", "rca_behaviour_notices", "run_searches", "run_search_switch"}


def test_upgrade_adds_and_downgrade_drops_only_its_tables(database_at: Callable[[str], Database]) -> None:
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

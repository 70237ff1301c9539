"""Revision 0027: it adds a table for behaviours of runs, and the downgrade drops nothing else."""

from __future__ import annotations

from collections.abc import Callable

from sqlalchemy import inspect, text

from relab.storage import Database
from relab.storage.migrate import downgrade, upgrade

MARK = "INSERT INTO run_behaviours (run_id, behaviour, content_hash) VALUES ('r', 'b', 'h')"


def test_behaviours_are_stored_and_the_downgrade_drops_only_them(database_at: Callable[[str], Database]) -> None:
    database = database_at("0026")
    for _ in range(2):
        upgrade(database, "0027")
        with database.write() as unit:
            unit.session.execute(text(MARK))
        downgrade(database, "0026")
        with database.read() as session:
            names = inspect(session.connection()).get_table_names()
        assert "run_behaviours" not in names
        assert "rca_labels" in names

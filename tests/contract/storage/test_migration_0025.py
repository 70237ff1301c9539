"""Revision 0025: it adds a table for labels of runs, and the downgrade drops nothing else."""

from __future__ import annotations

from collections.abc import Callable

from sqlalchemy import inspect, text

from relab.storage import Database
from relab.storage.migrate import downgrade, upgrade

LABEL = (
    "INSERT INTO rca_labels (run_id, content_hash, step_id, labelled_by, labelled_at) VALUES ('r', 'h', 's', 'me', 0)"
)


def test_labels_are_stored_and_the_downgrade_drops_only_them(database_at: Callable[[str], Database]) -> None:
    database = database_at("0024")
    for _ in range(2):
        upgrade(database, "0025")
        with database.write() as unit:
            unit.session.execute(text(LABEL))
        downgrade(database, "0024")
        with database.read() as session:
            names = inspect(session.connection()).get_table_names()
        assert "rca_labels" not in names
        assert "rca_failures" in names

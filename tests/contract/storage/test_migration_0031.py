"""Revision 0031: it adds a table for labels of behaviours, and the downgrade drops nothing else."""

from __future__ import annotations

from collections.abc import Callable

from sqlalchemy import inspect, text

from relab.storage import Database
from relab.storage.migrate import downgrade, upgrade

LABEL = (
    "INSERT INTO rca_behaviour_labels (run_id, behaviour, content_hash, is_shown, labelled_by, labelled_at)"
    " VALUES ('r', 'b', 'h', true, 'me', 0)"
)


def test_behaviour_label_table_is_added_and_the_downgrade_drops_only_it(
    database_at: Callable[[str], Database],
) -> None:
    database = database_at("0030")
    for _ in range(2):
        upgrade(database, "0031")
        with database.write() as unit:
            unit.session.execute(text(LABEL))
        downgrade(database, "0030")
        with database.read() as session:
            names = inspect(session.connection()).get_table_names()
        assert "rca_behaviour_labels" not in names
        assert {"rca_labels", "rca_behaviour_notices"} <= set(names)

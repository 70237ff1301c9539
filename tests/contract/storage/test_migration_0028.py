"""Revision 0028: it adds a table for ranking models, and the downgrade drops nothing else."""

from __future__ import annotations

from collections.abc import Callable

from sqlalchemy import inspect, text

from relab.storage import Database
from relab.storage.migrate import downgrade, upgrade

MODEL = "INSERT INTO rca_ranking_models (source, trained_at, artefact) VALUES ('s', 0, '{}')"


def test_models_are_stored_and_the_downgrade_drops_only_them(database_at: Callable[[str], Database]) -> None:
    database = database_at("0027")
    for _ in range(2):
        upgrade(database, "0028")
        with database.write() as unit:
            unit.session.execute(text(MODEL))
        downgrade(database, "0027")
        with database.read() as session:
            names = inspect(session.connection()).get_table_names()
        assert "rca_ranking_models" not in names
        assert "rca_labels" in names

"""Revision 0029: it adds the judge of an analysis and a table for its answers; the downgrade drops nothing else."""

from __future__ import annotations

from collections.abc import Callable

from sqlalchemy import inspect, text

from relab.storage import Database
from relab.storage.migrate import downgrade, upgrade

ANALYSIS = (
    "INSERT INTO rca_runs (rca_run_id, run_id, content_hash, status, created_at) VALUES ('a', 'r', 'h', 'queued', 0)"
)
ANSWER = "INSERT INTO rca_judge_answers (run_id, request, answer, answered_at) VALUES ('r', 'q', '{}', 0)"


def test_analyses_have_a_judge_and_survive_the_downgrade(database_at: Callable[[str], Database]) -> None:
    database = database_at("0028")
    with database.write() as unit:
        unit.session.execute(text(ANALYSIS))
    for _ in range(2):
        upgrade(database, "0029")
        with database.write() as unit:
            unit.session.execute(text(ANSWER))
        with database.read() as session:
            assert session.execute(text("SELECT judge FROM rca_runs")).scalar_one() == "off"
        downgrade(database, "0028")
        with database.read() as session:
            names = inspect(session.connection()).get_table_names()
            assert session.execute(text("SELECT count(*) FROM rca_runs")).scalar_one() == 1
        assert "rca_judge_answers" not in names
        assert "rca_ranking_models" in names

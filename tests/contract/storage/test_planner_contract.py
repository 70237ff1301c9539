"""Settings for the query planner: they hold for one transaction on PostgreSQL, and do nothing on SQLite."""

from __future__ import annotations

from sqlalchemy import text

from relab.storage import Database
from relab.storage.planner import prefer_indexes
from relab.storage.session import DatabaseSession


def plan(session: DatabaseSession) -> str:
    """Return PostgreSQL's plan of a query for jobs; by default it would scan an empty table."""
    return "\n".join(session.execute(text("EXPLAIN SELECT * FROM jobs WHERE job_id IN ('a', 'b')")).scalars())


def test_preference_for_indexes_ends_with_the_transaction(database: Database) -> None:
    with database.read() as session:
        prefer_indexes(session)
        if not database.is_sqlite:
            assert "Seq Scan" not in plan(session)
            assert session.execute(text("SHOW enable_seqscan")).scalar_one() == "off"
    with database.write() as unit:
        prefer_indexes(unit.session)
    if not database.is_sqlite:
        with database.read() as session:
            assert session.execute(text("SHOW enable_seqscan")).scalar_one() == "on"
            assert session.execute(text("SHOW max_parallel_workers_per_gather")).scalar_one() != "0"

"""Settings for PostgreSQL's query planner."""

from __future__ import annotations

from sqlalchemy import func, select
from sqlalchemy.orm import Session


def prefer_indexes(session: Session) -> None:
    """Make PostgreSQL prefer index scans in the session's transaction; on SQLite, do nothing.

    Use it for a transaction that reads a large table in many parts of a few hundred ids. The planner overestimates how
    many rows belong to an id if rows of the same id lie together, such as the spans of a trace. For each part, it would
    then read the whole table, or start parallel workers that take longer to start than to run.
    """
    if session.get_bind().dialect.name == "postgresql":
        settings = {"enable_seqscan": "off", "max_parallel_workers_per_gather": "0"}
        session.execute(select(*(func.set_config(name, value, True) for name, value in settings.items())))

"""Settings for PostgreSQL's query planner."""

from __future__ import annotations

from sqlalchemy import func, select

from relab.storage.session import DatabaseSession


def prefer_indexes(session: DatabaseSession) -> None:
    """Make PostgreSQL prefer index scans in the session's transaction; on SQLite, do nothing.

    Use it for a transaction that reads the rows of a few hundred ids at a time from a large table.
    """
    if session.get_bind().dialect.name == "postgresql":
        # The planner overestimates the rows of an id if they lie together, and would read the whole table for each
        # part.
        settings = {"enable_seqscan": "off", "max_parallel_workers_per_gather": "0"}
        session.execute(select(*(func.set_config(name, value, True) for name, value in settings.items())))

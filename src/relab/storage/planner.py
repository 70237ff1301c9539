"""Settings for PostgreSQL's query planner."""

from __future__ import annotations

from sqlalchemy import func, select
from sqlalchemy.orm import Session


def prefer_indexes(session: Session) -> None:
    """Make PostgreSQL prefer index scans in the session's transaction, which reads a large table in many small parts.

    The planner's samples overestimate the frequency of clustered ids (the spans of a trace). For the rows of
    a few hundred ids it would, in every part, read the whole table or start parallel workers that take
    longer to start than to run. On SQLite, this does nothing.
    """
    if session.get_bind().dialect.name == "postgresql":
        settings = {"enable_seqscan": "off", "max_parallel_workers_per_gather": "0"}
        session.execute(select(*(func.set_config(name, value, True) for name, value in settings.items())))

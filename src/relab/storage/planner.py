"""A word to PostgreSQL's planner."""

from __future__ import annotations

from sqlalchemy import func, select
from sqlalchemy.orm import Session


def prefer_indexes(session: Session) -> None:
    """Have this transaction look rows up by index; for work that goes through a large table in many small parts.

    From its samples the planner takes ids that come in groups (the spans of a trace) for much commoner
    than they are: for the rows of a few hundred ids it would read the whole table, or start workers that take
    longer to start than to work, for every part anew.
    """
    if session.get_bind().dialect.name == "postgresql":
        settings = {"enable_seqscan": "off", "max_parallel_workers_per_gather": "0"}
        session.execute(select(*(func.set_config(name, value, True) for name, value in settings.items())))

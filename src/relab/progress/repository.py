"""Queries over progress events. Every function takes the session of a transaction."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from sqlalchemy import bindparam, delete, func, insert, select

from relab.progress.models import ProgressEvent
from relab.progress.tables import ProgressEventRow
from relab.storage.base import table_of
from relab.storage.session import DatabaseSession

# SQLite limits the number of bound parameters per statement.
TOPICS_PER_QUERY = 500

_LOCK_SPACE = 0x70726F67
"""The first key of the advisory locks of topics, to distinguish them from other locks: "prog" in ASCII."""


# The statement is built once, because building it takes longer than running it.
_APPEND = insert(table_of(ProgressEventRow)).values(
    seq=select(func.coalesce(func.max(ProgressEventRow.seq), 0) + 1)
    .where(ProgressEventRow.topic == bindparam("of_topic"))
    .scalar_subquery()
)


def append(session: DatabaseSession, topic: str, *, status: str, step: str, pct: int, message: str, at: int) -> None:
    """Append an event to a topic, with the topic's next number.

    Args:
        session: the session of the transaction.
        topic: the id of the work, such as an analysis.
        status: the status of the work.
        step: the name of the current step.
        pct: the completed part of the work in percent.
        message: a sentence for people.
        at: the time of the event, in microseconds since 1970.
    """
    # A worker that lost its lease and its successor may write at the same time: the second waits until the first
    # commits. SQLite has only one writer at a time.
    if session.get_bind().dialect.name == "postgresql":
        session.execute(select(func.pg_advisory_xact_lock(_LOCK_SPACE, func.hashtext(topic))))
    event = {"topic": topic, "status": status, "step": step, "pct": pct, "message": message, "updated_at": at}
    session.execute(_APPEND, {**event, "of_topic": topic})


def read_after(session: DatabaseSession, topic: str, seq: int) -> list[ProgressEvent]:
    """Return the events of a topic with a number greater than `seq`, in order."""
    columns = [column for column in ProgressEventRow.__table__.c if column.name != "topic"]
    statement = (
        select(*columns)
        .where(ProgressEventRow.topic == topic, ProgressEventRow.seq > seq)
        .order_by(ProgressEventRow.seq)
    )
    return [ProgressEvent.model_validate(row, from_attributes=True) for row in session.execute(statement)]


def latest_seqs(session: DatabaseSession, topics: Collection[str]) -> dict[str, int]:
    """Return the number of each topic's last event, as `{topic: number}`; topics without events are left out."""
    ordered: Sequence[str] = sorted(topics)
    found: dict[str, int] = {}
    for start in range(0, len(ordered), TOPICS_PER_QUERY):
        statement = (
            select(ProgressEventRow.topic, func.max(ProgressEventRow.seq))
            .where(ProgressEventRow.topic.in_(ordered[start : start + TOPICS_PER_QUERY]))
            .group_by(ProgressEventRow.topic)
        )
        found.update((topic, seq) for topic, seq in session.execute(statement))
    return found


def delete_topics(session: DatabaseSession, topics: Collection[str]) -> None:
    """Delete all events of these topics."""
    session.execute(delete(table_of(ProgressEventRow)).where(ProgressEventRow.topic.in_(list(topics))))

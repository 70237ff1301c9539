"""Queries over the receivers of notices and their positions in timelines (the last event that each has processed).

Every function takes the session of a transaction.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import and_, delete, func, select, union, update

from relab.incidents.notices.tables import (
    NoticeDeliveryRow,
    NoticePlaceRow,
    NoticePostRow,
    NoticeReceiverRow,
    SlackRequestRow,
)
from relab.incidents.storage.tables import EventRow, IncidentRow
from relab.storage.base import table_of
from relab.storage.session import DatabaseSession
from relab.storage.upsert import insert_into

_RECEIVER = tuple(NoticeReceiverRow.__table__.c)


def add_receiver(session: DatabaseSession, values: Mapping[str, Any]) -> None:
    """Insert a receiver if it does not exist; `values` maps each column name of `notice_receivers` to its value."""
    session.execute(insert_into(session, table_of(NoticeReceiverRow)).values(**values).on_conflict_do_nothing())


def get_receivers(session: DatabaseSession) -> Sequence[Any]:
    """Return the rows of all receivers of notices that were ever set up, sorted by name."""
    return session.execute(select(*_RECEIVER).order_by(NoticeReceiverRow.receiver)).all()


def get_receiver(session: DatabaseSession, receiver: str) -> Any | None:
    """Return the row of the receiver with this name; None if it does not exist."""
    return session.execute(select(*_RECEIVER).where(NoticeReceiverRow.receiver == receiver)).one_or_none()


def change_receiver(session: DatabaseSession, receiver: str, values: Mapping[str, Any]) -> None:
    """Set columns of a receiver; `values` maps the names of these columns to the new values."""
    table = table_of(NoticeReceiverRow)
    session.execute(update(table).where(NoticeReceiverRow.receiver == receiver).values(**values))


def waiting(session: DatabaseSession, receiver: str, *, opened_from: int, limit: int) -> Sequence[Any]:
    """Return `(incident_id, seq)` of incidents with events that a receiver has not processed.

    The incident that was opened first comes first. `seq` is the number of the last event that the receiver has
    processed, or 0.

    Args:
        session: the session of the transaction.
        receiver: the name of the receiver.
        opened_from: a time in microseconds since 1970. An ended incident is left out if it was opened before this time
            and the receiver has processed none of its events.
        limit: the maximum number of incidents.
    """
    # Open, unfinished and recent incidents; each group is found by an index.
    candidates = union(
        select(IncidentRow.incident_id).where(IncidentRow.closed_at.is_(None)),
        select(NoticePlaceRow.incident_id).where(
            NoticePlaceRow.receiver == receiver, NoticePlaceRow.is_over.is_(False)
        ),
        select(IncidentRow.incident_id).where(IncidentRow.opened_at >= opened_from),
    ).subquery()
    seq = func.coalesce(NoticePlaceRow.seq, 0)
    is_place = and_(NoticePlaceRow.receiver == receiver, NoticePlaceRow.incident_id == IncidentRow.incident_id)
    statement = (
        select(IncidentRow.incident_id, seq.label("seq"))
        .join(candidates, candidates.c.incident_id == IncidentRow.incident_id)
        .outerjoin(NoticePlaceRow, is_place)
        .where(IncidentRow.last_seq > seq, NoticePlaceRow.is_over.is_not(True))
        .order_by(IncidentRow.opened_at, IncidentRow.incident_id)
    )
    return session.execute(statement.limit(limit)).all()


def put_place(session: DatabaseSession, receiver: str, incident_id: str, seq: int, *, is_over: bool) -> None:
    """Move a receiver's position in a timeline forward to event number `seq`; never move it back.

    `is_over` says whether that event ends the incident.
    """
    statement = insert_into(session, table_of(NoticePlaceRow)).values(
        receiver=receiver, incident_id=incident_id, seq=seq, is_over=is_over
    )
    session.execute(
        statement.on_conflict_do_update(
            index_elements=["receiver", "incident_id"],
            set_={"seq": seq, "is_over": is_over},
            where=NoticePlaceRow.seq < seq,
        )
    )


def add_post(session: DatabaseSession, values: Mapping[str, Any]) -> None:
    """Insert a posted notice (a message of another part of relab); do nothing if it is stored already.

    A notice with the same topic and the same number in the topic (`seq`) is the same notice.

    `values` maps each column name of the table of posted notices to its value.
    """
    session.execute(insert_into(session, table_of(NoticePostRow)).values(**values).on_conflict_do_nothing())


def delete_posts(session: DatabaseSession, before: int) -> None:
    """Delete posted notices (messages of other parts of relab) from before a time (microseconds since 1970).

    The rows that say which receivers have processed them are deleted, too.
    """
    session.execute(delete(table_of(NoticePostRow)).where(NoticePostRow.at < before))


def pending_posts(session: DatabaseSession, receiver: str, *, since: int, limit: int) -> Sequence[Any]:
    """Return `(notice_id, content)` of posted notices that a receiver has not processed, oldest first.

    A posted notice is a message of another part of relab; it is about no event of an incident.

    Args:
        session: the session of the transaction.
        receiver: the name of the receiver.
        since: return only notices of this time or later, in microseconds since 1970.
        limit: how many notices to return at most.
    """
    settled = select(NoticeDeliveryRow.notice_id).where(NoticeDeliveryRow.receiver == receiver)
    statement = select(NoticePostRow.notice_id, NoticePostRow.content).where(
        NoticePostRow.at >= since, NoticePostRow.notice_id.not_in(settled)
    )
    return session.execute(statement.order_by(NoticePostRow.at, NoticePostRow.notice_id).limit(limit)).all()


def add_delivery(session: DatabaseSession, receiver: str, notice_id: str) -> None:
    """Store that a receiver has processed a posted notice (a message of another part of relab)."""
    values = insert_into(session, table_of(NoticeDeliveryRow)).values(receiver=receiver, notice_id=notice_id)
    session.execute(values.on_conflict_do_nothing())


def diagnosis_before(session: DatabaseSession, incident_id: str, seq: int) -> dict[str, Any] | None:
    """Return the content of the last diagnosis before event `seq` in an incident's timeline; None before the first one."""
    statement = select(EventRow.content).where(
        EventRow.incident_id == incident_id, EventRow.kind == "diagnosed", EventRow.seq < seq
    )
    return session.execute(statement.order_by(EventRow.seq.desc()).limit(1)).scalar_one_or_none()


def first_events(session: DatabaseSession, incident_id: str, kind: str, most: int) -> list[dict[str, Any]]:
    """Return the contents of an incident's first events of a kind, at most `most`."""
    statement = select(EventRow.content).where(EventRow.incident_id == incident_id, EventRow.kind == kind)
    return list(session.execute(statement.order_by(EventRow.seq).limit(most)).scalars())


def take_request(session: DatabaseSession, signature: str, at: int) -> bool:
    """Store the signature of a Slack request with the time `at`; return False if the signature was stored before."""
    added = insert_into(session, table_of(SlackRequestRow)).values(signature=signature, at=at)
    statement = added.on_conflict_do_nothing().returning(SlackRequestRow.signature)
    return session.execute(statement).one_or_none() is not None


def delete_requests(session: DatabaseSession, before: int) -> None:
    """Delete the signatures of Slack requests that were stored before a time (microseconds since 1970)."""
    session.execute(delete(table_of(SlackRequestRow)).where(SlackRequestRow.at < before))

"""Queries over incidents and their timelines. Every function takes the session of a transaction."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from sqlalchemy import and_, delete, func, insert, or_, select, update
from sqlalchemy.orm import Session

from relab.incidents.storage.models import IncidentOutcome
from relab.incidents.storage.tables import IS_OPEN, AlertRow, EventRow, IncidentRow
from relab.storage.base import table_of
from relab.storage.upsert import insert_into

_INCIDENT = tuple(IncidentRow.__table__.c)
_HEAVY = frozenset(("findings", "symptoms", "plan", "content"))
_SUMMARY = tuple(column for column in _INCIDENT if column.name not in _HEAVY)
_EVENT = tuple(column for column in EventRow.__table__.c if column.name != "once")


def add_open(session: Session, values: Mapping[str, Any]) -> bool:
    """Insert an open incident; return False if its target already has an open one.

    While another transaction inserts one, PostgreSQL waits here until that transaction commits or rolls back.
    """
    statement = insert_into(session, table_of(IncidentRow)).values(**values)
    statement = statement.on_conflict_do_nothing(index_elements=["target"], index_where=IS_OPEN)
    return session.execute(statement.returning(IncidentRow.incident_id)).one_or_none() is not None


def get(session: Session, incident_id: str) -> Any | None:
    """Return an incident, or None."""
    return session.execute(select(*_INCIDENT).where(IncidentRow.incident_id == incident_id)).one_or_none()


def lock(session: Session, incident_id: str) -> Any | None:
    """Lock an incident until the transaction ends; return its row, or None."""
    statement = select(*_INCIDENT).where(IncidentRow.incident_id == incident_id).with_for_update()
    return session.execute(statement).one_or_none()


def get_open(session: Session, target: str, *, is_locked: bool = False) -> Any | None:
    """Return the open incident of a target, or None; with `is_locked`, lock it until the transaction ends."""
    statement = select(*_INCIDENT).where(IncidentRow.target == target, IncidentRow.closed_at.is_(None))
    return session.execute(statement.with_for_update() if is_locked else statement).one_or_none()


def open_ids(session: Session, target: str | None) -> Sequence[str]:
    """Return the ids of the open incidents, of one target or of all, in locking order."""
    statement = select(IncidentRow.incident_id).where(IncidentRow.closed_at.is_(None))
    if target is not None:
        statement = statement.where(IncidentRow.target == target)
    return sorted(session.execute(statement).scalars())


def change(session: Session, incident_id: str, values: Mapping[str, Any]) -> None:
    """Set columns of an incident."""
    session.execute(update(table_of(IncidentRow)).where(IncidentRow.incident_id == incident_id).values(**values))


def list_incidents(
    session: Session, *, target: str | None, statuses: Collection[str], before: tuple[int, str] | None, limit: int
) -> Sequence[Any]:
    """Return incidents without their large columns, the newest first, starting after the cursor `before`."""
    statement = select(*_SUMMARY)
    if target is not None:
        statement = statement.where(IncidentRow.target == target)
    if statuses:
        statement = statement.where(IncidentRow.status.in_(sorted(statuses)))
    if before is not None:
        at, incident_id = before
        earlier = and_(IncidentRow.opened_at == at, IncidentRow.incident_id < incident_id)
        statement = statement.where(IncidentRow.opened_at <= at, or_(IncidentRow.opened_at < at, earlier))
    ordered = statement.order_by(IncidentRow.opened_at.desc(), IncidentRow.incident_id.desc())
    return session.execute(ordered.limit(limit)).all()


def closed_before(session: Session, before: int, limit: int) -> Sequence[str]:
    """Return the ids of incidents that ended before a time, the one that ended first first."""
    statement = select(IncidentRow.incident_id).where(IncidentRow.closed_at < before)
    ordered = statement.order_by(IncidentRow.closed_at, IncidentRow.incident_id)
    return session.execute(ordered.limit(limit)).scalars().all()


def mended_before(session: Session, incident_ids: Collection[str], before: int) -> set[str]:
    """Return which of these incidents ended by a time and were not dismissed as false positives."""
    if not incident_ids:
        return set()
    ended = (IncidentRow.closed_at <= before, IncidentRow.outcome != IncidentOutcome.DISMISSED)
    statement = select(IncidentRow.incident_id).where(IncidentRow.incident_id.in_(sorted(incident_ids)), *ended)
    return set(session.execute(statement).scalars())


def count_closed(session: Session, before: int) -> int:
    """Return how many incidents ended before a time."""
    statement = select(func.count()).select_from(IncidentRow).where(IncidentRow.closed_at < before)
    return session.execute(statement).scalar_one()


def remove(session: Session, incident_ids: Collection[str]) -> None:
    """Delete incidents with their timelines, acts, approvals and alerts."""
    # Alerts first: receiving an alert locks in the same order.
    session.execute(delete(table_of(AlertRow)).where(AlertRow.incident_id.in_(sorted(incident_ids))))
    session.execute(delete(table_of(IncidentRow)).where(IncidentRow.incident_id.in_(sorted(incident_ids))))


def add_event(session: Session, values: Mapping[str, Any]) -> None:
    """Insert an event; the caller has locked the incident, and the event has its next number."""
    session.execute(insert(table_of(EventRow)).values(**values))


def find_event_seq(session: Session, incident_id: str, once: str) -> Any | None:
    """Return the event with this `once` key, or None."""
    statement = select(*_EVENT).where(EventRow.incident_id == incident_id, EventRow.once == once)
    return session.execute(statement).one_or_none()


def events_after(session: Session, incident_id: str, seq: int, limit: int) -> Sequence[Any]:
    """Return the events of an incident with a greater number, in order."""
    statement = select(*_EVENT).where(EventRow.incident_id == incident_id, EventRow.seq > seq)
    return session.execute(statement.order_by(EventRow.seq).limit(limit)).all()


def latest_seqs(session: Session, incident_ids: Collection[str]) -> dict[str, int]:
    """Return the number of the last event of each incident that has one."""
    statement = select(IncidentRow.incident_id, IncidentRow.last_seq).where(
        IncidentRow.incident_id.in_(sorted(incident_ids)), IncidentRow.last_seq > 0
    )
    return {row.incident_id: row.last_seq for row in session.execute(statement)}


def remove_alerts(session: Session, before: int) -> None:
    """Delete alerts that were last seen before a time."""
    session.execute(delete(table_of(AlertRow)).where(AlertRow.last_at < before))

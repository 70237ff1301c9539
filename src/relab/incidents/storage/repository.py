"""Queries over incidents and their timelines. Every function takes the session of a transaction."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from sqlalchemy import and_, delete, func, insert, or_, select, update

from relab.incidents.storage.models import IncidentOutcome
from relab.incidents.storage.tables import IS_OPEN, AlertRow, EventRow, IncidentRow
from relab.storage.base import table_of
from relab.storage.session import DatabaseSession
from relab.storage.upsert import insert_into

_INCIDENT = tuple(IncidentRow.__table__.c)
_HEAVY = frozenset(("findings", "symptoms", "plan", "content"))
_SUMMARY = tuple(column for column in _INCIDENT if column.name not in _HEAVY)
_EVENT = tuple(column for column in EventRow.__table__.c if column.name != "once")


def add_open(session: DatabaseSession, values: Mapping[str, Any]) -> bool:
    """Insert an open incident; return False if the target already has an open incident.

    `values` maps each column name to its value. On PostgreSQL, the call waits while another transaction is inserting an
    open incident for the same target.
    """
    statement = insert_into(session, table_of(IncidentRow)).values(**values)
    statement = statement.on_conflict_do_nothing(index_elements=["target"], index_where=IS_OPEN)
    return session.execute(statement.returning(IncidentRow.incident_id)).one_or_none() is not None


def get(session: DatabaseSession, incident_id: str) -> Any | None:
    """Return the row of the incident with this id; None if it does not exist."""
    return session.execute(select(*_INCIDENT).where(IncidentRow.incident_id == incident_id)).one_or_none()


def lock(session: DatabaseSession, incident_id: str) -> Any | None:
    """Return the row of the incident with this id, and lock it until the transaction ends.

    Return None if the incident does not exist.
    """
    statement = select(*_INCIDENT).where(IncidentRow.incident_id == incident_id).with_for_update()
    return session.execute(statement).one_or_none()


def get_open(session: DatabaseSession, target: str, *, is_locked: bool = False) -> Any | None:
    """Return the row of a target's open incident; None if no incident of the target is open.

    With `is_locked`, also lock the row until the transaction ends.
    """
    statement = select(*_INCIDENT).where(IncidentRow.target == target, IncidentRow.closed_at.is_(None))
    return session.execute(statement.with_for_update() if is_locked else statement).one_or_none()


def open_ids(session: DatabaseSession, target: str | None) -> Sequence[str]:
    """Return the ids of the open incidents of one target, or of all targets (None), in ascending order.

    A caller that locks several incidents must lock them in this order, so that transactions do not block each other.
    """
    statement = select(IncidentRow.incident_id).where(IncidentRow.closed_at.is_(None))
    if target is not None:
        statement = statement.where(IncidentRow.target == target)
    return sorted(session.execute(statement).scalars())


def change(session: DatabaseSession, incident_id: str, values: Mapping[str, Any]) -> None:
    """Set columns of an incident; `values` maps the names of these columns to the new values."""
    session.execute(update(table_of(IncidentRow)).where(IncidentRow.incident_id == incident_id).values(**values))


def list_incidents(
    session: DatabaseSession,
    *,
    target: str | None,
    statuses: Collection[str],
    before: tuple[int, str] | None,
    limit: int,
) -> Sequence[Any]:
    """Return rows of incidents without their large columns, the newest first.

    Args:
        session: the session of the transaction.
        target: only incidents of this target; None for all.
        statuses: only incidents with one of these statuses; empty for all.
        before: `opened_at` and id of the last incident of the previous page; None for the first page.
        limit: the maximum number of rows.
    """
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


def closed_before(session: DatabaseSession, before: int, limit: int) -> Sequence[str]:
    """Return the ids of at most `limit` incidents that ended before a time (microseconds since 1970), sorted by their end."""
    statement = select(IncidentRow.incident_id).where(IncidentRow.closed_at < before)
    ordered = statement.order_by(IncidentRow.closed_at, IncidentRow.incident_id)
    return session.execute(ordered.limit(limit)).scalars().all()


def mended_before(session: DatabaseSession, incident_ids: Collection[str], before: int) -> set[str]:
    """Return those of the given incidents that ended at `before` (microseconds since 1970) or earlier.

    Incidents that a person dismissed as false positives are left out.
    """
    if not incident_ids:
        return set()
    ended = (IncidentRow.closed_at <= before, IncidentRow.outcome != IncidentOutcome.DISMISSED)
    statement = select(IncidentRow.incident_id).where(IncidentRow.incident_id.in_(sorted(incident_ids)), *ended)
    return set(session.execute(statement).scalars())


def count_closed(session: DatabaseSession, before: int) -> int:
    """Return how many incidents ended before a time (microseconds since 1970)."""
    statement = select(func.count()).select_from(IncidentRow).where(IncidentRow.closed_at < before)
    return session.execute(statement).scalar_one()


def remove(session: DatabaseSession, incident_ids: Collection[str]) -> None:
    """Delete incidents with their timelines, actions, approval requests and alerts."""
    # Alerts first: receiving an alert locks in the same order.
    session.execute(delete(table_of(AlertRow)).where(AlertRow.incident_id.in_(sorted(incident_ids))))
    session.execute(delete(table_of(IncidentRow)).where(IncidentRow.incident_id.in_(sorted(incident_ids))))


def add_event(session: DatabaseSession, values: Mapping[str, Any]) -> None:
    """Insert an event of a timeline.

    The caller must hold the lock of the incident. `values` maps each column to its value; `seq` is the next number.
    """
    session.execute(insert(table_of(EventRow)).values(**values))


def find_event_by_key(session: DatabaseSession, incident_id: str, once: str) -> Any | None:
    """Return the row of the event with the idempotency key `once` in an incident's timeline; None if there is none."""
    statement = select(*_EVENT).where(EventRow.incident_id == incident_id, EventRow.once == once)
    return session.execute(statement).one_or_none()


def events_after(session: DatabaseSession, incident_id: str, seq: int, limit: int) -> Sequence[Any]:
    """Return the rows of an incident's events with a number greater than `seq`, in order, at most `limit`."""
    statement = select(*_EVENT).where(EventRow.incident_id == incident_id, EventRow.seq > seq)
    return session.execute(statement.order_by(EventRow.seq).limit(limit)).all()


def latest_seqs(session: DatabaseSession, incident_ids: Collection[str]) -> dict[str, int]:
    """Return `{incident id: number of the incident's last event}`; incidents without an event are missing."""
    statement = select(IncidentRow.incident_id, IncidentRow.last_seq).where(
        IncidentRow.incident_id.in_(sorted(incident_ids)), IncidentRow.last_seq > 0
    )
    return {row.incident_id: row.last_seq for row in session.execute(statement)}


def remove_alerts(session: DatabaseSession, before: int) -> None:
    """Delete the alerts that were last received before a time (microseconds since 1970)."""
    session.execute(delete(table_of(AlertRow)).where(AlertRow.last_at < before))

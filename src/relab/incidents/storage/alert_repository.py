"""Database queries that read and write received alerts. Every function takes the session of a transaction.

In a large outage, thousands of alerts of one group arrive at once, so each query handles many alerts.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from sqlalchemy import Update, case, func, select, tuple_, update

from relab.incidents.storage.tables import AlertRow
from relab.storage.base import table_of
from relab.storage.session import DatabaseSession
from relab.storage.upsert import insert_into

AlertKey = tuple[str, int]
"""The fingerprint of an alert and when it began, in microseconds since 1970: they identify an alert within its group."""


def add_alerts(session: DatabaseSession, rows: Sequence[Mapping[str, Any]]) -> set[AlertKey]:
    """Insert the alerts that are not stored yet, and return the keys `(fingerprint, starts_at)` of the inserted alerts.

    Each of `rows` maps every column name of the table of alerts to its value.
    """
    if not rows:
        return set()
    statement = insert_into(session, table_of(AlertRow)).values(list(rows)).on_conflict_do_nothing()
    added = session.execute(statement.returning(AlertRow.fingerprint, AlertRow.starts_at))
    return {(row.fingerprint, row.starts_at) for row in added}


def alerts_of(session: DatabaseSession, group_key: str, fingerprints: Collection[str]) -> Sequence[Any]:
    """Return the rows of all alerts of a group with these fingerprints, and lock the rows until the transaction ends.

    A row is `(fingerprint, starts_at, is_firing, incident_id)`.
    """
    columns = (AlertRow.fingerprint, AlertRow.starts_at, AlertRow.is_firing, AlertRow.incident_id)
    statement = select(*columns).where(
        AlertRow.group_key == group_key, AlertRow.fingerprint.in_(sorted(set(fingerprints)))
    )
    return session.execute(statement.order_by(AlertRow.fingerprint, AlertRow.starts_at).with_for_update()).all()


def count_firing(session: DatabaseSession, incident_id: str, since: int) -> int:
    """Return how many alerts of an incident fire and were seen at `since` (microseconds since 1970) or later."""
    firing = (AlertRow.incident_id == incident_id, AlertRow.is_firing, AlertRow.last_at >= since)
    return session.execute(select(func.count()).select_from(AlertRow).where(*firing)).scalar_one()


def end_alerts(session: DatabaseSession, group_key: str, keys: Collection[AlertKey]) -> None:
    """Mark alerts of one group as no longer firing.

    `group_key` is the sender's key of the group; `keys` (fingerprint and starting time) identify the alerts in the
    group.
    """
    if keys:
        session.execute(_of(group_key, keys).values(is_firing=False))


def link_alerts(session: DatabaseSession, group_key: str, keys: Collection[AlertKey], incident_id: str) -> None:
    """Store, for alerts of one group, the id of the incident that the alerts opened or joined.

    `group_key` is the sender's key of the group; `keys` (fingerprint and starting time) identify the alerts in the
    group.
    """
    session.execute(_of(group_key, keys).values(incident_id=incident_id))


def see_alerts(session: DatabaseSession, group_key: str, keys: Collection[AlertKey], at: int) -> None:
    """Store that alerts of one group were last seen at the time `at`, unless a later time is stored.

    `group_key` is the sender's key of the group; `keys` (fingerprint and starting time) identify the alerts in the
    group.
    """
    latest = case((AlertRow.last_at > at, AlertRow.last_at), else_=at)
    if keys:
        session.execute(_of(group_key, keys).values(last_at=latest))


def _of(group_key: str, keys: Collection[AlertKey]) -> Update:
    among = tuple_(AlertRow.fingerprint, AlertRow.starts_at).in_(sorted(keys))
    return update(table_of(AlertRow)).where(AlertRow.group_key == group_key, among)

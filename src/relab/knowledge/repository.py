"""Queries over past incidents. Every function takes the session of a transaction."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import ColumnElement, collate, delete, select

from relab.knowledge.models import PastIncident
from relab.knowledge.tables import PastIncidentRow
from relab.storage.base import table_of
from relab.storage.session import DatabaseSession
from relab.storage.upsert import insert_into


def put(session: DatabaseSession, incident: PastIncident) -> None:
    """Insert a past incident, or replace the one with the same id."""
    table = table_of(PastIncidentRow)
    values: dict[str, Any] = {
        "incident_id": incident.incident_id,
        "target": incident.target,
        "cause": incident.cause,
        "resolved_at": incident.resolved_at,
        "content": incident.model_dump(mode="json"),
    }
    statement = insert_into(session, table).values(values)
    session.execute(
        statement.on_conflict_do_update(
            index_elements=["incident_id"],
            set_={name: statement.excluded[name] for name in values if name != "incident_id"},
        )
    )


def get(session: DatabaseSession, incident_id: str) -> dict[str, Any] | None:
    """Return the past incident with this id, as the JSON of a `PastIncident`; None if there is none."""
    statement = select(PastIncidentRow.content).where(PastIncidentRow.incident_id == incident_id)
    return session.execute(statement).scalar_one_or_none()


def latest(session: DatabaseSession, *, cause: str | None, target: str | None, limit: int) -> Sequence[dict[str, Any]]:
    """Return at most `limit` past incidents, each as the JSON of a `PastIncident`, the one that ended last first.

    Args:
        session: the session of the transaction.
        cause: only incidents with this cause; None: any cause.
        target: only incidents of this target; None: any target.
        limit: the maximum number of incidents.
    """
    statement = select(PastIncidentRow.content)
    if cause is not None:
        statement = statement.where(PastIncidentRow.cause == cause)
    if target is not None:
        statement = statement.where(PastIncidentRow.target == target)
    ordered = statement.order_by(PastIncidentRow.resolved_at.desc(), _in_byte_order(session).desc())
    return session.execute(ordered.limit(limit)).scalars().all()


def remove(session: DatabaseSession, incident_id: str) -> bool:
    """Delete the incident with this id; return whether there was one."""
    found = get(session, incident_id) is not None
    session.execute(delete(table_of(PastIncidentRow)).where(PastIncidentRow.incident_id == incident_id))
    return found


def _in_byte_order(session: DatabaseSession) -> ColumnElement[str]:
    """Return the id column with a byte-order collation, so that SQLite and PostgreSQL sort alike.

    The default order of PostgreSQL depends on its locale.
    """
    return collate(PastIncidentRow.incident_id, "BINARY" if session.get_bind().dialect.name == "sqlite" else "C")

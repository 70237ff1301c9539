"""The table of past incidents: one row each, with a column for each field that queries filter or sort by."""

from __future__ import annotations

from typing import Any

from sqlalchemy import JSON, ColumnClause, Index, String

from relab.storage.base import Base, IdText, Micros, column


class PastIncidentRow(Base):
    """One incident that is over: its target (the service), its cause, and when it ended, in microseconds since 1970.

    `content` is the whole incident as JSON.
    """

    __tablename__ = "past_incidents"
    __table_args__ = (
        Index("ix_past_incidents_resolved_at", "resolved_at"),
        Index("ix_past_incidents_cause_resolved_at", "cause", "resolved_at"),
    )

    incident_id: ColumnClause[str] = column(IdText, primary_key=True)
    target: ColumnClause[str] = column(String(200))
    cause: ColumnClause[str] = column(String(100))
    resolved_at: ColumnClause[int] = column(Micros)
    content: ColumnClause[dict[str, Any]] = column(JSON)

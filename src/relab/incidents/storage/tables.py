"""Tables of incidents, their timelines, actions and approval requests, and of received alerts.

Other tables hold the state that all processes of a responder share: leases, kill switches and baselines.
"""

from __future__ import annotations

from typing import Any, Final

from sqlalchemy import (
    JSON,
    Boolean,
    ColumnClause,
    Float,
    ForeignKey,
    Index,
    Integer,
    String,
    Text,
    UniqueConstraint,
    text,
)

from relab.storage.base import Base, IdText, Micros, OwnId, ShortText, column

IS_OPEN: Final = text("closed_at IS NULL")
"""The predicate of the unique index that allows at most one open incident per target."""

_OptionalJson = JSON(none_as_null=True)


class IncidentRow(Base):
    """The row of one incident."""

    __tablename__ = "incidents"
    __table_args__ = (
        # Partial: it holds the rows of `IS_OPEN` only, see the migration 0005. To repeat that here would load the
        # dialects of all databases in each process.
        Index("uq_incidents_open_target", "target", unique=True),
        Index("ix_incidents_opened_at_incident_id", "opened_at", "incident_id"),
        Index("ix_incidents_target_opened_at", "target", "opened_at"),
        # All columns that the metrics read.
        Index("ix_incidents_target_outcome", "target", "outcome", "status", "opened_at", "closed_at"),
    )

    incident_id: ColumnClause[str] = column(OwnId, primary_key=True)
    target: ColumnClause[str] = column(IdText)
    opened_at: ColumnClause[int] = column(Micros)
    updated_at: ColumnClause[int] = column(Micros)
    closed_at: ColumnClause[int | None] = column(Micros)
    status: ColumnClause[str] = column(String(20))
    phase: ColumnClause[str] = column(String(20))
    severity: ColumnClause[str] = column(String(20))
    outcome: ColumnClause[str | None] = column(String(20))
    title: ColumnClause[str] = column(ShortText)
    diagnosis: ColumnClause[str | None] = column(String(200))
    probability: ColumnClause[float | None] = column(Float)
    recommendation: ColumnClause[str] = column(Text)
    last_seq: ColumnClause[int] = column(Integer)
    """The number of the last event of the incident's timeline."""
    findings: ColumnClause[list[Any]] = column(JSON)
    symptoms: ColumnClause[dict[str, Any]] = column(JSON)
    plan: ColumnClause[dict[str, Any] | None] = column(_OptionalJson)
    content: ColumnClause[dict[str, Any]] = column(JSON)


class EventRow(Base):
    """One event of the timeline of an incident."""

    __tablename__ = "incident_events"
    __table_args__ = (UniqueConstraint("incident_id", "once", name="uq_incident_events_incident_id_once"),)

    incident_id: ColumnClause[str] = column(ForeignKey(IncidentRow.incident_id, ondelete="CASCADE"), primary_key=True)
    seq: ColumnClause[int] = column(Integer, primary_key=True, autoincrement=False)
    kind: ColumnClause[str] = column(String(60))
    at: ColumnClause[int] = column(Micros)
    message: ColumnClause[str] = column(Text)
    content: ColumnClause[dict[str, Any]] = column(JSON)
    evidence: ColumnClause[list[Any]] = column(JSON)
    once: ColumnClause[str | None] = column(IdText)


class ActionRow(Base):
    """An action that the responder has requested or is about to request.

    `asked_at` is the time of the request in microseconds since 1970, and `content` an `ActionRecord` as JSON.
    """

    __tablename__ = "incident_acts"
    __table_args__ = (
        Index("ix_incident_acts_incident_id_seq", "incident_id", "seq"),
        Index("ix_incident_acts_target_asked_at", "target", "asked_at"),
        Index("ix_incident_acts_status", "status"),
        Index("ix_incident_acts_target_status", "target", "status"),
    )

    key: ColumnClause[str] = column(IdText, primary_key=True)
    incident_id: ColumnClause[str] = column(ForeignKey(IncidentRow.incident_id, ondelete="CASCADE"))
    seq: ColumnClause[int] = column(Integer)
    """The number of the action's `act_asked` event. Actions are sorted by it, because clocks may be set back."""
    target: ColumnClause[str] = column(IdText)
    """The target of the incident; `content` holds the part of it that the action changes."""
    status: ColumnClause[str] = column(String(16))
    asked_at: ColumnClause[int] = column(Micros)
    content: ColumnClause[dict[str, Any]] = column(JSON)


class ApprovalRow(Base):
    """An approval request, and the decision on it."""

    __tablename__ = "incident_approvals"
    __table_args__ = (Index("ix_incident_approvals_incident_id_asked_at", "incident_id", "asked_at"),)

    approval_id: ColumnClause[str] = column(IdText, primary_key=True)
    incident_id: ColumnClause[str] = column(ForeignKey(IncidentRow.incident_id, ondelete="CASCADE"))
    asked_at: ColumnClause[int] = column(Micros)
    expires_at: ColumnClause[int] = column(Micros)
    request: ColumnClause[dict[str, Any]] = column(JSON)
    decision: ColumnClause[dict[str, Any] | None] = column(_OptionalJson)


class AlertRow(Base):
    """A received alert, identified by its group, its fingerprint and the time at which it began.

    `incident_id` is the id of the incident that the alert opened or joined; None if it did neither. `first_at` and
    `last_at` are the times at which the alert was first and last received, in microseconds since 1970.
    """

    __tablename__ = "incident_alerts"
    __table_args__ = (Index("ix_incident_alerts_last_at", "last_at"),)

    group_key: ColumnClause[str] = column(IdText, primary_key=True)
    fingerprint: ColumnClause[str] = column(IdText, primary_key=True)
    starts_at: ColumnClause[int] = column(Micros, primary_key=True, autoincrement=False)
    is_firing: ColumnClause[bool] = column(Boolean)
    incident_id: ColumnClause[str | None] = column(ForeignKey(IncidentRow.incident_id, ondelete="SET NULL"))
    first_at: ColumnClause[int] = column(Micros)
    last_at: ColumnClause[int] = column(Micros)


class SwitchRow(Base):
    """The state of the kill switch of one target, or of all targets (`*`). While `is_paused`, the responder is paused.

    `by` is the person who changed the switch last, `at` the time of this change (in microseconds since 1970), and `why`
    its reason.
    """

    __tablename__ = "responder_switches"

    target: ColumnClause[str] = column(IdText, primary_key=True)
    is_paused: ColumnClause[bool] = column(Boolean)
    by: ColumnClause[str] = column(String(200))
    at: ColumnClause[int] = column(Micros)
    why: ColumnClause[str] = column(ShortText)


class ResponderLeaseRow(Base):
    """The lease of the one process that watches a target and responds to its incidents: owner and expiry.

    `term` counts the changes of the owner; `until` is in microseconds since 1970.
    """

    __tablename__ = "responder_leases"

    target: ColumnClause[str] = column(IdText, primary_key=True)
    owner: ColumnClause[str] = column(String(200))
    term: ColumnClause[int] = column(Integer)
    until: ColumnClause[int] = column(Micros)


class BaselineRow(Base):
    """The stored state of a target's anomaly detector: its baseline (usual values of signals) and muted anomalies."""

    __tablename__ = "responder_baselines"

    target: ColumnClause[str] = column(IdText, primary_key=True)
    saved_at: ColumnClause[int] = column(Micros)
    content: ColumnClause[dict[str, Any]] = column(JSON)

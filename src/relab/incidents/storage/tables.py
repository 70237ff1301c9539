"""Tables of incidents: one row per incident, its timeline, its actions and its approval requests.

Other tables hold the received alerts, and the state that all processes of a responder share: leases, kill switches and
baselines.
"""

from __future__ import annotations

from typing import Any, Final

from sqlalchemy import JSON, Boolean, Float, ForeignKey, Index, Integer, String, Text, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from relab.storage.base import Base, IdText, Micros, OwnId, ShortText

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

    incident_id: Mapped[str] = mapped_column(OwnId, primary_key=True)
    target: Mapped[str] = mapped_column(IdText)
    opened_at: Mapped[int] = mapped_column(Micros)
    updated_at: Mapped[int] = mapped_column(Micros)
    closed_at: Mapped[int | None] = mapped_column(Micros)
    status: Mapped[str] = mapped_column(String(20))
    phase: Mapped[str] = mapped_column(String(20))
    severity: Mapped[str] = mapped_column(String(20))
    outcome: Mapped[str | None] = mapped_column(String(20))
    title: Mapped[str] = mapped_column(ShortText)
    diagnosis: Mapped[str | None] = mapped_column(String(200))
    probability: Mapped[float | None] = mapped_column(Float)
    recommendation: Mapped[str] = mapped_column(Text)
    last_seq: Mapped[int] = mapped_column(Integer)
    """The number of the last event of the incident's timeline."""
    findings: Mapped[list[Any]] = mapped_column(JSON)
    symptoms: Mapped[dict[str, Any]] = mapped_column(JSON)
    plan: Mapped[dict[str, Any] | None] = mapped_column(_OptionalJson)
    content: Mapped[dict[str, Any]] = mapped_column(JSON)


class EventRow(Base):
    """One event of the timeline of an incident."""

    __tablename__ = "incident_events"
    __table_args__ = (UniqueConstraint("incident_id", "once", name="uq_incident_events_incident_id_once"),)

    incident_id: Mapped[str] = mapped_column(ForeignKey(IncidentRow.incident_id, ondelete="CASCADE"), primary_key=True)
    seq: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    kind: Mapped[str] = mapped_column(String(60))
    at: Mapped[int] = mapped_column(Micros)
    message: Mapped[str] = mapped_column(Text)
    content: Mapped[dict[str, Any]] = mapped_column(JSON)
    evidence: Mapped[list[Any]] = mapped_column(JSON)
    once: Mapped[str | None] = mapped_column(IdText)


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

    key: Mapped[str] = mapped_column(IdText, primary_key=True)
    incident_id: Mapped[str] = mapped_column(ForeignKey(IncidentRow.incident_id, ondelete="CASCADE"))
    seq: Mapped[int] = mapped_column(Integer)
    """The number of the action's `act_asked` event. Actions are sorted by it, because clocks may be set back."""
    target: Mapped[str] = mapped_column(IdText)
    """The target of the incident; `content` holds the part of it that the action changes."""
    status: Mapped[str] = mapped_column(String(16))
    asked_at: Mapped[int] = mapped_column(Micros)
    content: Mapped[dict[str, Any]] = mapped_column(JSON)


class ApprovalRow(Base):
    """An approval request, and the decision on it."""

    __tablename__ = "incident_approvals"
    __table_args__ = (Index("ix_incident_approvals_incident_id_asked_at", "incident_id", "asked_at"),)

    approval_id: Mapped[str] = mapped_column(IdText, primary_key=True)
    incident_id: Mapped[str] = mapped_column(ForeignKey(IncidentRow.incident_id, ondelete="CASCADE"))
    asked_at: Mapped[int] = mapped_column(Micros)
    expires_at: Mapped[int] = mapped_column(Micros)
    request: Mapped[dict[str, Any]] = mapped_column(JSON)
    decision: Mapped[dict[str, Any] | None] = mapped_column(_OptionalJson)


class AlertRow(Base):
    """A received alert, identified by its group, its fingerprint and the time at which it began.

    `incident_id` is the id of the incident that the alert opened or joined; None if it did neither. `first_at` and
    `last_at` are the times at which the alert was first and last received, in microseconds since 1970.
    """

    __tablename__ = "incident_alerts"
    __table_args__ = (Index("ix_incident_alerts_last_at", "last_at"),)

    group_key: Mapped[str] = mapped_column(IdText, primary_key=True)
    fingerprint: Mapped[str] = mapped_column(IdText, primary_key=True)
    starts_at: Mapped[int] = mapped_column(Micros, primary_key=True, autoincrement=False)
    is_firing: Mapped[bool] = mapped_column(Boolean)
    incident_id: Mapped[str | None] = mapped_column(ForeignKey(IncidentRow.incident_id, ondelete="SET NULL"))
    first_at: Mapped[int] = mapped_column(Micros)
    last_at: Mapped[int] = mapped_column(Micros)


class SwitchRow(Base):
    """The state of the kill switch of the target `target`, or of all targets (`*`); while it is on, the responder is paused.

    `by`, `at` (in microseconds since 1970) and `why` say which person changed the switch last, when, and for what reason.
    """

    __tablename__ = "responder_switches"

    target: Mapped[str] = mapped_column(IdText, primary_key=True)
    is_paused: Mapped[bool] = mapped_column(Boolean)
    by: Mapped[str] = mapped_column(String(200))
    at: Mapped[int] = mapped_column(Micros)
    why: Mapped[str] = mapped_column(ShortText)


class ResponderLeaseRow(Base):
    """The lease of the one process that watches a target and responds to its incidents: owner and expiry.

    `term` counts the changes of the owner; `until` is in microseconds since 1970.
    """

    __tablename__ = "responder_leases"

    target: Mapped[str] = mapped_column(IdText, primary_key=True)
    owner: Mapped[str] = mapped_column(String(200))
    term: Mapped[int] = mapped_column(Integer)
    until: Mapped[int] = mapped_column(Micros)


class BaselineRow(Base):
    """The stored state of a target's anomaly detector: its baseline (usual values of signals) and muted anomalies."""

    __tablename__ = "responder_baselines"

    target: Mapped[str] = mapped_column(IdText, primary_key=True)
    saved_at: Mapped[int] = mapped_column(Micros)
    content: Mapped[dict[str, Any]] = mapped_column(JSON)

"""The database tables of rollouts."""

from __future__ import annotations

from typing import Any

from sqlalchemy import JSON, Boolean, ColumnClause, ForeignKey, Index, Integer, String, Text

from relab.storage.base import Base, Micros, OwnId, column


class RolloutRow(Base):
    """One rollout, without its windows (measurements), which have their own table."""

    __tablename__ = "rollouts"
    __table_args__ = (Index("ix_rollouts_status_verdict", "status", "verdict"),)

    rollout_id: ColumnClause[str] = column(OwnId, primary_key=True)
    target: ColumnClause[str] = column(Text)
    status: ColumnClause[str] = column(String(16))
    verdict: ColumnClause[str | None] = column(String(16))
    is_job: ColumnClause[bool] = column(Boolean)
    """Whether a worker executes the rollout as a job, and continues it after a restart."""
    created_at: ColumnClause[int] = column(Micros)
    document: ColumnClause[dict[str, Any]] = column(JSON)
    """The record without its windows."""
    open_change: ColumnClause[dict[str, Any] | None] = column(JSON(none_as_null=True))
    """How to restore the flags, an `OpenChange`; set before the first change, null again after the flags are restored
    or applied."""


class RolloutWindowRow(Base):
    """One window (measurement) of a rollout: its number, from 0, and the `ArmWindow` as a JSON document."""

    __tablename__ = "rollout_windows"

    rollout_id: ColumnClause[str] = column(
        OwnId, ForeignKey("rollouts.rollout_id", ondelete="CASCADE"), primary_key=True
    )
    number: ColumnClause[int] = column(Integer, primary_key=True)
    document: ColumnClause[dict[str, Any]] = column(JSON)


class RolloutStopRow(Base):
    """The request of a person (`actor`) to stop a rollout; the process that executes the rollout reads it."""

    __tablename__ = "rollout_stops"

    rollout_id: ColumnClause[str] = column(
        OwnId, ForeignKey("rollouts.rollout_id", ondelete="CASCADE"), primary_key=True
    )
    at: ColumnClause[int] = column(Micros)
    actor: ColumnClause[str] = column(Text)
    note: ColumnClause[str] = column(Text)


class RolloutLeaseRow(Base):
    """A lease: the right of a process (`owner`) to change the flags of a target until the time `until`."""

    __tablename__ = "rollout_leases"

    target_key: ColumnClause[str] = column(String(64), primary_key=True)
    owner: ColumnClause[str] = column(Text)
    rollout_id: ColumnClause[str] = column(OwnId)
    until: ColumnClause[int] = column(Micros)

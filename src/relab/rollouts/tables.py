"""The database tables of rollouts."""

from __future__ import annotations

from typing import Any

from sqlalchemy import JSON, Boolean, ForeignKey, Index, Integer, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from relab.storage.base import Base, Micros, OwnId


class RolloutRow(Base):
    """One rollout, without its windows (measurements), which have their own table."""

    __tablename__ = "rollouts"
    __table_args__ = (Index("ix_rollouts_status_verdict", "status", "verdict"),)

    rollout_id: Mapped[str] = mapped_column(OwnId, primary_key=True)
    target: Mapped[str] = mapped_column(Text)
    status: Mapped[str] = mapped_column(String(16))
    verdict: Mapped[str | None] = mapped_column(String(16))
    is_job: Mapped[bool] = mapped_column(Boolean)
    """Whether a worker executes the rollout as a job, and continues it after a restart."""
    created_at: Mapped[int] = mapped_column(Micros)
    document: Mapped[dict[str, Any]] = mapped_column(JSON)
    """The record without its windows."""
    open_change: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
    """How to restore the flags, an `OpenChange`; set before the first change, null again after the flags are restored
    or applied."""


class RolloutWindowRow(Base):
    """One window (measurement) of a rollout: its number, from 0, and the `ArmWindow` as a JSON document."""

    __tablename__ = "rollout_windows"

    rollout_id: Mapped[str] = mapped_column(
        OwnId, ForeignKey("rollouts.rollout_id", ondelete="CASCADE"), primary_key=True
    )
    number: Mapped[int] = mapped_column(Integer, primary_key=True)
    document: Mapped[dict[str, Any]] = mapped_column(JSON)


class RolloutStopRow(Base):
    """The request of a person (`actor`) to stop a rollout; the process that executes the rollout reads it."""

    __tablename__ = "rollout_stops"

    rollout_id: Mapped[str] = mapped_column(
        OwnId, ForeignKey("rollouts.rollout_id", ondelete="CASCADE"), primary_key=True
    )
    at: Mapped[int] = mapped_column(Micros)
    actor: Mapped[str] = mapped_column(Text)
    note: Mapped[str] = mapped_column(Text)


class RolloutLeaseRow(Base):
    """A lease: the right of a process (`owner`) to change the flags of a target until the time `until`."""

    __tablename__ = "rollout_leases"

    target_key: Mapped[str] = mapped_column(String(64), primary_key=True)
    owner: Mapped[str] = mapped_column(Text)
    rollout_id: Mapped[str] = mapped_column(OwnId)
    until: Mapped[int] = mapped_column(Micros)

"""ORM tables of jobs and leases. With every back end, the table `jobs` is the authoritative record of queued work."""

from __future__ import annotations

from typing import Any

from sqlalchemy import JSON, Index, Integer, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from relab.jobs.models import Lane
from relab.storage.base import Base, Micros, OwnId


class JobRow(Base):
    """The row of one job; its times are microseconds since 1970. The fields are those of `Job`."""

    __tablename__ = "jobs"
    __table_args__ = (Index("ix_jobs_status_lane_run_after_job_id", "status", "lane", "run_after", "job_id"),)

    job_id: Mapped[str] = mapped_column(OwnId, primary_key=True)
    name: Mapped[str] = mapped_column(String(100))
    args: Mapped[dict[str, Any]] = mapped_column(JSON)
    lane: Mapped[str] = mapped_column(String(16), server_default=Lane.BACKGROUND)
    status: Mapped[str] = mapped_column(String(16))
    attempts: Mapped[int] = mapped_column(Integer)
    """The number of times the job was started, including starts after which the worker died."""
    max_attempts: Mapped[int] = mapped_column(Integer)
    run_after: Mapped[int] = mapped_column(Micros)
    announced_at: Mapped[int | None] = mapped_column(Micros)
    """The time when the job was last announced to the broker; None if it must be announced (again)."""
    lease_owner: Mapped[str | None] = mapped_column(String(200))
    lease_until: Mapped[int | None] = mapped_column(Micros)
    error: Mapped[str | None] = mapped_column(Text)
    created_at: Mapped[int] = mapped_column(Micros)
    finished_at: Mapped[int | None] = mapped_column(Micros)


class LeaseRow(Base):
    """The row of one lease, which lets only one process at a time run a background loop, such as the housekeeping.

    `name` is the name of the loop, and `owner` the name of the process. `until` is when the lease expires, in
    microseconds since 1970.
    """

    __tablename__ = "leases"

    name: Mapped[str] = mapped_column(String(100), primary_key=True)
    owner: Mapped[str] = mapped_column(String(200))
    until: Mapped[int] = mapped_column(Micros)

"""The tables of jobs and leases. With every back end, the table `jobs` is the authoritative record of queued work."""

from __future__ import annotations

from typing import Any

from sqlalchemy import JSON, ColumnClause, Index, Integer, String, Text

from relab.jobs.models import Lane
from relab.storage.base import Base, Micros, OwnId, column


class JobRow(Base):
    """The row of one job; its times are microseconds since 1970. The fields are those of `Job`."""

    __tablename__ = "jobs"
    __table_args__ = (Index("ix_jobs_status_lane_run_after_job_id", "status", "lane", "run_after", "job_id"),)

    job_id: ColumnClause[str] = column(OwnId, primary_key=True)
    name: ColumnClause[str] = column(String(100))
    args: ColumnClause[dict[str, Any]] = column(JSON)
    lane: ColumnClause[str] = column(String(16), server_default=Lane.BACKGROUND)
    status: ColumnClause[str] = column(String(16))
    attempts: ColumnClause[int] = column(Integer)
    """The number of times the job was started, including starts after which the worker died."""
    max_attempts: ColumnClause[int] = column(Integer)
    run_after: ColumnClause[int] = column(Micros)
    announced_at: ColumnClause[int | None] = column(Micros)
    """The time when the job was last announced to the broker; None if it must be announced (again)."""
    lease_owner: ColumnClause[str | None] = column(String(200))
    lease_until: ColumnClause[int | None] = column(Micros)
    error: ColumnClause[str | None] = column(Text)
    created_at: ColumnClause[int] = column(Micros)
    finished_at: ColumnClause[int | None] = column(Micros)


class LeaseRow(Base):
    """The row of one lease, which lets only one process at a time run a background loop, such as the housekeeping.

    `name` is the name of the loop, and `owner` the name of the process. `until` is when the lease expires, in
    microseconds since 1970.
    """

    __tablename__ = "leases"

    name: ColumnClause[str] = column(String(100), primary_key=True)
    owner: ColumnClause[str] = column(String(200))
    until: ColumnClause[int] = column(Micros)

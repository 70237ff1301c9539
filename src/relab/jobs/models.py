"""Schemas of jobs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import Any, TypeAlias

from pydantic import BaseModel, ConfigDict

from relab.core.clock import Timestamp

DEFAULT_MAX_ATTEMPTS = 3


class JobStatus(StrEnum):
    """The status of a job. A `parked` job has failed permanently and waits for a person."""

    PENDING = "pending"
    RUNNING = "running"
    DONE = "done"
    PARKED = "parked"


class Job(BaseModel):
    """A queued job: the name of its handler and its JSON arguments, preferably ids."""

    model_config = ConfigDict(frozen=True)

    job_id: str
    name: str
    args: dict[str, Any]
    status: JobStatus
    attempts: int
    max_attempts: int
    run_after: Timestamp
    lease_owner: str | None
    lease_until: Timestamp | None
    error: str | None
    created_at: Timestamp
    finished_at: Timestamp | None


class JobCounts(BaseModel):
    """The job counts by status, and how long the oldest runnable pending job has waited, in seconds."""

    pending: int = 0
    running: int = 0
    done: int = 0
    parked: int = 0
    oldest_pending_s: float = 0.0


JobHandler: TypeAlias = Callable[[Mapping[str, Any]], None]
"""A function that does the work of a job. It may run more than once for the same job, so it must be idempotent."""

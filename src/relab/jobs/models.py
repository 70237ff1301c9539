"""Values of the job queue: lanes, jobs with their status, and subscriptions of handlers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Any, Final, TypeAlias

from pydantic import BaseModel, ConfigDict

from relab.core.clock import Timestamp

DEFAULT_MAX_ATTEMPTS = 3


class Lane(StrEnum):
    """The urgency of a job: interactive, background, long or training, the most urgent first.

    A worker starts a job of a lane only if the more urgent lanes that the worker serves have no runnable job.
    """

    INTERACTIVE = "interactive"
    """A person waits for the job."""
    BACKGROUND = "background"
    """No person waits for the job: analyses of runs on arrival, labels and deletions of runs."""
    LONG = "long"
    """The job takes minutes to hours: evaluations, rollouts."""
    TRAINING = "training"
    """The job trains a policy: minutes to hours of processor time, for which no rollout waits."""


LANES: Final = tuple(Lane)
DEFAULT_TIME_LIMITS_S: Final[Mapping[Lane, float]] = MappingProxyType(
    {Lane.INTERACTIVE: 600.0, Lane.BACKGROUND: 600.0, Lane.LONG: 86_400.0, Lane.TRAINING: 86_400.0}
)
"""Maximum time in seconds that a job may run, by lane (urgency)."""


class JobStatus(StrEnum):
    """The status of a job: pending, running, done, or parked (it has failed permanently and waits for a person)."""

    PENDING = "pending"
    RUNNING = "running"
    DONE = "done"
    PARKED = "parked"


class Job(BaseModel):
    """A job of the queue. Times are in microseconds since 1970.

    Attributes:
        name: the name by which the job's handlers are found.
        args: the arguments of the handlers, as JSON, preferably ids.
        lane: how urgent the job is.
        attempts: the number of attempts so far, including those during which the worker died.
        max_attempts: the maximum number of attempts. If the last one fails, the job is parked (kept for a person to
            retry or drop).
        run_after: the earliest time of the next attempt.
        lease_owner: the name of the worker that runs the job; None if it is not running.
        lease_until: the end of the lease, which the worker extends again and again. After it, another worker may take
            the job over. None if the job is not running.
        error: the error of the last failed attempt; None if no attempt failed, or if the job is done.
        finished_at: when the job was done or parked; None until then.
    """

    model_config = ConfigDict(frozen=True)

    job_id: str
    name: str
    args: dict[str, Any]
    lane: Lane
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
    """The numbers of jobs by status; `parked` jobs failed permanently and wait for a person.

    `oldest_pending_s` is for how long the oldest pending job has been due, in seconds; 0 if no pending job is due.
    """

    pending: int = 0
    running: int = 0
    done: int = 0
    parked: int = 0
    oldest_pending_s: float = 0.0


JobHandler: TypeAlias = Callable[[Mapping[str, Any]], None]
"""A function that does the work of a job. It may run more than once for the same job, so it must be idempotent."""

ParkListener: TypeAlias = Callable[[Job, str], None]
"""A function that is called, at least once, with a job that has failed permanently and the error."""


@dataclass(frozen=True, slots=True)
class Subscription:
    """A handler for all jobs with the name `name`. If several subscriptions have this name, a job runs all of them.

    Attributes:
        name: the name of the jobs.
        handler: the function that does the work of a job. After a failure, all handlers of the job run again.
        on_parked: a function that is called when a job has failed permanently, or was dropped before it was done. It
            can, for example, mark the object of the job as failed. None: no function is called.
    """

    name: str
    handler: JobHandler
    on_parked: ParkListener | None = None

"""The queue as its users see it, and the seam to what wakes the workers.

A job is a row. Enqueueing inserts the row in the caller's transaction (an outbox: the
job exists if and only if the caller's write does) and then announces it. An announcement
is only a wake-up call: if it is lost, the sweeper or a poll finds the row.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from relab.core.clock import Clock
from relab.core.ids import new_id
from relab.jobs import repository
from relab.jobs.errors import JobNotFoundError, JobStateError
from relab.jobs.models import DEFAULT_MAX_ATTEMPTS, Job, JobCounts, JobStatus
from relab.storage import Database, UnitOfWork

SWEEP_LEASE = "job-sweeper"
LONGEST_SWEEP_LEASE_US = 3_600 * 1_000_000
"""No sweeper takes a longer lease, so one that ends later was taken before the clock was set back."""
"""The lease of the worker that does the housekeeping."""


class Announcer(Protocol):
    """Tells workers that jobs wait: the seam between the embedded queue and RQ."""

    def announce(self, job_ids: Sequence[str]) -> None:
        """Wake workers for these jobs. Must not raise for a broker that is down: the rows are safe."""
        ...

    def ping(self) -> None:
        """Make a round trip to the broker.

        Raises:
            BrokerUnavailableError: it cannot be reached.
        """
        ...

    def close(self) -> None:
        """Release connections."""
        ...


class PollingAnnouncer:
    """The embedded queue's announcer: workers poll the table, so there is nobody to tell."""

    def announce(self, job_ids: Sequence[str]) -> None:
        """Do nothing: a worker finds the row within its poll interval."""

    def ping(self) -> None:
        """Do nothing: the database is the broker."""

    def close(self) -> None:
        """Do nothing: there is no connection."""


class JobQueue:
    """Enqueue jobs, look at them, and decide about parked ones."""

    def __init__(self, database: Database, clock: Clock, announcer: Announcer) -> None:
        self._database = database
        self._clock = clock
        self._announcer = announcer

    def enqueue(
        self,
        unit: UnitOfWork,
        name: str,
        args: Mapping[str, Any],
        *,
        max_attempts: int = DEFAULT_MAX_ATTEMPTS,
        job_id: str | None = None,
    ) -> str:
        """Add a job to the caller's transaction and return its id; it starts after the commit.

        `job_id` may be the id of what the job makes, so that one leads to the other.
        """
        now = self._clock.now_us()
        job_id = job_id or new_id()
        repository.add(
            unit.session,
            {
                "job_id": job_id,
                "name": name,
                "args": dict(args),
                "status": JobStatus.PENDING,
                "attempts": 0,
                "max_attempts": max_attempts,
                "run_after": now,
                # The commit's announcement counts; if it is lost, the sweeper notices that nobody came.
                "announced_at": now,
                "created_at": now,
            },
        )
        unit.on_commit(lambda: self._announcer.announce([job_id]))
        return job_id

    def get(self, job_id: str) -> Job:
        """Return a job.

        Raises:
            JobNotFoundError: there is none of that id.
        """
        with self._database.read() as session:
            job = repository.get(session, job_id)
        if job is None:
            raise JobNotFoundError(job_id)
        return job

    def list(self, *, status: JobStatus | None = None, limit: int = 100) -> list[Job]:
        """Return the newest jobs."""
        with self._database.read() as session:
            return repository.list_jobs(session, status, limit)

    def counts(self) -> JobCounts:
        """Return how many jobs stand where."""
        with self._database.read() as session:
            return repository.count(session, self._clock.now_us())

    def worker_lives(self) -> bool:
        """Return whether some worker does the housekeeping of the queue right now."""
        now = self._clock.now_us()
        with self._database.read() as session:
            return repository.is_leased(session, SWEEP_LEASE, now, now + LONGEST_SWEEP_LEASE_US)

    def retry(self, job_id: str) -> None:
        """Make a parked job run again, with all its attempts.

        Raises:
            JobNotFoundError: there is none of that id.
            JobStateError: the job is not parked.
        """
        with self._database.write() as unit:
            if not repository.reset(unit.session, job_id, self._clock.now_us()):
                self._refuse(repository.get(unit.session, job_id), job_id, "Only a parked job can be retried")
            unit.on_commit(lambda: self._announcer.announce([job_id]))

    def drop(self, job_id: str) -> None:
        """Delete a job that is not running.

        Raises:
            JobNotFoundError: there is none of that id.
            JobStateError: a worker has it.
        """
        with self._database.write() as unit:
            if not repository.drop(unit.session, job_id):
                self._refuse(repository.get(unit.session, job_id), job_id, "A running job cannot be dropped")

    @staticmethod
    def _refuse(job: Job | None, job_id: str, rule: str) -> None:
        if job is None:
            raise JobNotFoundError(job_id)
        raise JobStateError(f"{rule}; {job_id} is {job.status}.")

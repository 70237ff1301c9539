"""The public interface of the job queue.

A job is a row of the database. Enqueueing inserts the row in the caller's transaction (an outbox), so the job exists
only if the transaction commits. After the commit, the back end announces the job to workers. Methods import the queries
when they are called, because most commands do not use the queue.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from relab.core.clock import Clock
from relab.core.ids import new_id
from relab.jobs.backend import JobBackend
from relab.jobs.errors import JobNotFoundError, JobStateError
from relab.jobs.models import DEFAULT_MAX_ATTEMPTS, Job, JobCounts, JobStatus, Lane
from relab.storage import Database, UnitOfWork

SWEEP_LEASE = "job-sweeper"
"""The name of the lease of the worker that does the housekeeping."""
MAX_SWEEP_LEASE_US = 3_600 * 1_000_000
"""The maximum duration of the sweep lease. A lease that ends later was taken before the clock was set back."""


class JobQueue:
    """Enqueues and reads jobs, and retries or drops them.

    Args:
        database: the database of the queue.
        clock: gives the times of jobs.
        backend: announces new jobs to workers.
    """

    def __init__(self, database: Database, clock: Clock, backend: JobBackend) -> None:
        self._database = database
        self._clock = clock
        self._backend = backend

    def enqueue(
        self,
        unit: UnitOfWork,
        name: str,
        args: Mapping[str, Any],
        *,
        lane: Lane = Lane.BACKGROUND,
        max_attempts: int = DEFAULT_MAX_ATTEMPTS,
        job_id: str | None = None,
    ) -> str:
        """Add a job to the caller's transaction and return its id; the job can start after the commit.

        Args:
            unit: the transaction.
            name: the name of the job, by which its handlers are found.
            args: the arguments of the handlers, as JSON, preferably ids.
            lane: how urgent the job is.
            max_attempts: the maximum number of attempts. If the last one fails, the job is parked (kept for a person to
                retry or drop).
            job_id: the id of the job, for example the id of the object that the job creates; None for a new id.
        """
        from relab.jobs import repository

        now = self._clock.now_us()
        job_id = job_id or new_id()
        repository.add(
            unit.session,
            {
                "job_id": job_id,
                "name": name,
                "args": dict(args),
                "lane": lane,
                "status": JobStatus.PENDING,
                "attempts": 0,
                "max_attempts": max_attempts,
                "run_after": now,
                # The job is announced at the commit; if the announcement is lost, the sweeper repeats it later.
                "announced_at": now,
                "created_at": now,
            },
        )
        unit.on_commit(lambda: self._backend.announce([job_id], lane))
        return job_id

    def promote(self, unit: UnitOfWork, job_id: str, lane: Lane) -> None:
        """Make a pending job more urgent: move it to the lane (urgency) `lane` in the caller's transaction.

        A job that is not pending any more does not change.
        """
        from relab.jobs import repository

        if repository.promote(unit.session, job_id, lane, self._clock.now_us()):
            unit.on_commit(lambda: self._backend.announce([job_id], lane))

    def count_unfinished(self, name: str, lane: Lane) -> int:
        """Return the number of pending and running jobs with this name in a lane (urgency)."""
        from relab.jobs import repository

        with self._database.read() as session:
            return repository.count_unfinished(session, name, lane)

    def get(self, job_id: str) -> Job:
        """Return the job with this id.

        Raises:
            JobNotFoundError: there is no job with this id.
        """
        from relab.jobs import repository

        with self._database.read() as session:
            job = repository.get(session, job_id)
        if job is None:
            raise JobNotFoundError(job_id)
        return job

    def list(self, *, status: JobStatus | None = None, limit: int = 100) -> list[Job]:
        """Return up to `limit` jobs, newest first; `status` restricts them to jobs with this status (None: all jobs)."""
        from relab.jobs import repository

        with self._database.read() as session:
            return repository.list_jobs(session, status, limit)

    def counts(self) -> JobCounts:
        """Return the number of jobs by status, and for how long the oldest pending job has been due."""
        from relab.jobs import repository

        with self._database.read() as session:
            return repository.count(session, self._clock.now_us())

    def worker_lives(self) -> bool:
        """Return whether at least one worker is alive.

        The sign is the lease for the queue's housekeeping, which only living workers renew. After the last worker has
        ended, the result stays True until the lease expires.
        """
        from relab.jobs import repository

        now = self._clock.now_us()
        with self._database.read() as session:
            return repository.is_leased(session, SWEEP_LEASE, now, now + MAX_SWEEP_LEASE_US)

    def retry(self, job_id: str) -> None:
        """Make a parked job (one that failed permanently) pending again; its attempts are counted from 0 again.

        Raises:
            JobNotFoundError: there is no job with this id.
            JobStateError: the job is not parked.
        """
        from relab.jobs import repository

        with self._database.write() as unit:
            lane = repository.reset(unit.session, job_id, self._clock.now_us())
            if lane is None:
                raise self._state_error(unit, job_id, "Only a parked job can be retried")
            unit.on_commit(lambda: self._backend.announce([job_id], lane))

    def drop(self, job_id: str) -> None:
        """Delete a job that is not running.

        Raises:
            JobNotFoundError: there is no job with this id.
            JobStateError: the job is running.
        """
        from relab.jobs import repository

        with self._database.write() as unit:
            if not repository.drop(unit.session, job_id):
                raise self._state_error(unit, job_id, "A running job cannot be dropped")

    @staticmethod
    def _state_error(unit: UnitOfWork, job_id: str, rule: str) -> JobNotFoundError | JobStateError:
        from relab.jobs import repository

        job = repository.get(unit.session, job_id)
        return JobNotFoundError(job_id) if job is None else JobStateError(f"{rule}; {job_id} is {job.status}.")

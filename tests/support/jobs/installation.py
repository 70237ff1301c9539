"""Installations of the job queue and their worker processes."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from relab.core.clock import SystemClock
from relab.core.ids import new_id
from relab.jobs.backend import BackendOptions, JobBackend
from relab.jobs.models import DEFAULT_TIME_LIMITS_S, LANES, Job, JobStatus, Lane
from relab.jobs.opening import open_backend
from relab.jobs.queue import JobQueue
from relab.storage import Database
from rig.children import Child, read_line
from rig.waiting import wait_until
from support.jobs.handlers import RUN_JOB, Journal
from support.lab.forked import forked
from support.storage.migrated import migrate

LEASE_S = 1.0
"""The lease of a worker, short because tests wait until the lease of a killed worker is over."""
LONG_LEASE_S = 3.0
"""The lease of workers that compete for jobs. A process that does not run for so long loses its job to another."""

_numbers = itertools.count()


@dataclass(frozen=True)
class Installation:
    """A job queue on one back end, its workers, and the journal of their handlers."""

    database_url: str
    redis_url: str
    queue_name: str
    folder: Path
    database: Database
    backend: JobBackend

    @property
    def queue(self) -> JobQueue:
        """The queue that services use."""
        return JobQueue(self.database, SystemClock(), self.backend)

    @property
    def journal(self) -> Journal:
        """The journal of the handlers."""
        return Journal(self.folder / "journal")

    def enqueue(
        self, name: str, *, lane: Lane = Lane.BACKGROUND, max_attempts: int = 3, **args: Any
    ) -> tuple[str, str]:
        """Queue a job; return its id and the key of its lines in the journal."""
        key = args.setdefault("key", new_id())
        with self.database.write() as unit:
            return self.queue.enqueue(unit, name, args, lane=lane, max_attempts=max_attempts), key

    def settled(self, job_id: str, status: JobStatus) -> Job:
        """Wait until the job has this status, and return it."""

        def look() -> Job | None:
            job = self.queue.get(job_id)
            return job if job.status is status else None

        job = wait_until(look, what=f"job {job_id} being {status}")
        assert job is not None
        return job

    def worker(self, lanes: Sequence[Lane] = LANES, *, lease_s: float = LEASE_S) -> AbstractContextManager[Child]:
        """Return a worker process of these lanes; entering it starts the process, and leaving it kills the process."""
        queue = (self.database_url, self.redis_url, self.queue_name)
        arguments = (*queue, str(self.journal.path), ",".join(lanes), str(lease_s))
        return _ready(forked("support.jobs.child", *arguments))


def make_backend(redis_url: str, queue_name: str, time_limits: Mapping[Lane, float]) -> JobBackend:
    """Return the back end of an installation: RQ if there is a Redis URL, else the embedded one."""
    options = BackendOptions(redis_url or None, queue_name, RUN_JOB, poll_s=0.02, time_limits=time_limits)
    return open_backend("rq" if redis_url else "embedded", options)


@contextmanager
def _ready(starting: AbstractContextManager[Child]) -> Iterator[Child]:
    with starting as process:
        assert read_line(process) == "ready"
        yield process


@contextmanager
def install(folder: Path, *, make_postgres_url: Callable[[str], str] | None, redis_url: str) -> Iterator[Installation]:
    """Set up an installation with an empty, migrated database: SQLite without `make_postgres_url`, RQ with a Redis."""
    name = f"jobs_{os.getpid()}_{next(_numbers)}"
    url = make_postgres_url(name) if make_postgres_url is not None else f"sqlite:///{folder}/jobs.db"
    backend = make_backend(redis_url, name, DEFAULT_TIME_LIMITS_S)
    database = Database.open(url)
    migrate(database)
    yield Installation(url, redis_url, name, folder, database, backend)
    backend.close()
    database.close()

"""The protocol of job back ends, and their options; `opening.py` opens the configured one.

A job is a row of the database. A back end only carries the ids of new jobs to workers. If such an announcement is lost,
`reannounce` or a poll finds the row later.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from relab.core.clock import Clock
from relab.jobs.models import Lane

if TYPE_CHECKING:
    from relab.jobs.runner import JobRunner
    from relab.storage import Database


class JobBackend(Protocol):
    """Announces new jobs to workers, and runs the loop of a worker (`work_until`).

    Attributes:
        worker_beside_server: whether `lab serve` starts a worker process by default.
    """

    worker_beside_server: bool

    def announce(self, job_ids: Sequence[str], lane: Lane) -> None:
        """Announce the new jobs `job_ids`, all of one lane (urgency), to workers.

        This method must not raise if the broker is unavailable, because the jobs are stored and can be announced again.
        """
        ...

    def reannounce(self, database: Database, clock: Clock, *, older_than_s: float) -> None:
        """Announce runnable jobs to the workers again, because earlier announcements may have been lost.

        Args:
            database: the database of the queue.
            clock: gives the current time, which is stored as the time of the announcement.
            older_than_s: jobs that were announced in the last `older_than_s` seconds are left out.

        Raises:
            DatabaseUnavailableError: the database is unavailable; the next call announces the jobs.
        """
        ...

    def ping(self) -> None:
        """Check that the broker answers, by a round trip.

        Raises:
            BrokerUnavailableError: the broker cannot be reached.
        """
        ...

    def work_until(self, stop: threading.Event, runner: JobRunner) -> None:
        """Run jobs of the runner's lanes (urgencies) until `stop` is set; the current job is finished first.

        Jobs of the most urgent lane start first.

        Call this method in the main thread; in other threads, a job that exceeds its time limit is not interrupted.
        While the broker or the database is unavailable, the method waits and retries.
        """
        ...

    def close(self) -> None:
        """Close all connections."""
        ...


@dataclass(frozen=True, slots=True)
class BackendOptions:
    """The options of all back ends; each back end uses some of them.

    Attributes:
        redis_url: the address of Redis, with its password; None if it is not configured.
        queue_name: the name of the broker's queue for the most urgent jobs (the lane `interactive`). Each other lane
            has the queue `queue_name.<lane>`.
        function_path: the dotted name of the function that a worker of the broker calls with the id of a job.
        poll_s: for a back end without a broker: the seconds between two polls of the table of jobs by a worker.
        time_limits: maximum time in seconds that a job may run, by lane (urgency).
    """

    redis_url: str | None
    queue_name: str
    function_path: str
    poll_s: float
    time_limits: Mapping[Lane, float]

"""A worker of the job queue: it runs the loop of the job back end, and the queue's housekeeping in a second thread."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

from relab.core.clock import Clock
from relab.core.logging import get_logger
from relab.jobs import repository
from relab.jobs.backend import JobBackend
from relab.jobs.queue import MAX_SWEEP_LEASE_US, SWEEP_LEASE
from relab.jobs.runner import JobRunner
from relab.storage import Database
from relab.storage.errors import DatabaseUnavailableError

UNAVAILABLE_PAUSE_S = 1.0
"""How long a worker waits before it tries an unavailable database again, in seconds."""
LOOP_LEASE_S = 15.0
"""The length of the lease of a `LeasedLoop`, in seconds: if the worker that holds it dies, another worker takes over
after this time."""

_log = get_logger(__name__)


def work_until(
    stop: threading.Event, backend: JobBackend, runner: JobRunner, sweeper: Callable[[], None], *, sweep_s: float
) -> None:
    """Run jobs in this thread, and do the housekeeping of the queue in another thread, until `stop` is set.

    Args:
        stop: ends the worker when set; the current job is finished first.
        backend: the job back end, which receives the ids of new jobs.
        runner: runs the jobs.
        sweeper: does the housekeeping, such as a `Sweeper`.
        sweep_s: the time between two calls of `sweeper`, in seconds.
    """
    with sweeping(sweeper, stop, every_s=sweep_s):
        backend.work_until(stop, runner)


@contextmanager
def sweeping(sweep: Callable[[], None], stop: threading.Event, *, every_s: float) -> Iterator[None]:
    """Call `sweep` at once and then every `every_s` seconds, in a separate thread, while the `with` block runs.

    While the database is unavailable, the thread retries. Any other error of `sweep` ends the thread, and is raised when
    the block ends without an error. When the thread ends, it sets `stop`, so that no worker continues without
    housekeeping.
    """
    ended = threading.Event()

    def loop() -> None:
        while not ended.is_set():
            try:
                sweep()
            except DatabaseUnavailableError as error:
                _log.warning("sweeper_waits_for_database", error=str(error))
            ended.wait(every_s)

    with ThreadPoolExecutor(1, thread_name_prefix="job-sweeper") as pool:
        future = pool.submit(loop)
        # A worker whose housekeeping has failed would seem healthy, but would not recover lost jobs.
        future.add_done_callback(lambda _: stop.set())
        try:
            yield
        finally:
            ended.set()
        future.result()


class Sweeper:
    """Does the housekeeping of the queue every `every_s` seconds, in one process at a time.

    Every worker may have a sweeper; only the worker that holds the lease does the housekeeping.

    Args:
        database: the database of the queue, with the lease.
        clock: gives the times of the lease.
        owner: name of this worker, for the lease.
        work: does the housekeeping.
        every_s: the minimum time between two calls of `work`, in seconds. The lease lasts three times as long, at most
            one hour.
    """

    def __init__(
        self, database: Database, clock: Clock, owner: str, work: Callable[[], None], *, every_s: float
    ) -> None:
        self._database = database
        self._clock = clock
        self._owner = owner
        self._work = work
        self._every_s = every_s
        # Use the monotonic clock: if the wall clock were set back, the sweeps would stop.
        self._due_s = time.monotonic()

    def __call__(self) -> None:
        """Do the housekeeping if it is due and no other process holds the lease.

        Raises:
            DatabaseUnavailableError: the database is unavailable.
        """
        if time.monotonic() < self._due_s:
            return
        self._due_s = time.monotonic() + self._every_s
        now = self._clock.now_us()
        with self._database.write(durable=False) as unit:
            until = now + min(int(3 * self._every_s * 1_000_000), MAX_SWEEP_LEASE_US)
            mine = repository.take_lease(unit.session, SWEEP_LEASE, self._owner, now, until)
        if mine:
            self._work()


class LeasedLoop:
    """Repeats one kind of work until none is left, in one process at a time.

    Every worker may have such a loop; only the process that holds the lease works.

    Args:
        database: the database with the leases.
        clock: gives the times of the lease.
        lease: the name of the lease.
        owner: the name of this worker, for the lease.
        has_work: returns whether there is work to do. If not, the loop ends without a write to the database.
        work: does one part of the work; each call takes a limited time.
        stop: ends the loop when set.
    """

    def __init__(
        self,
        database: Database,
        clock: Clock,
        lease: str,
        owner: str,
        *,
        has_work: Callable[[], bool],
        work: Callable[[], object],
        stop: threading.Event,
    ) -> None:
        self._database = database
        self._clock = clock
        self._lease = lease
        self._owner = owner
        self._has_work = has_work
        self._work = work
        self._stop = stop
        self._holds = False
        # Use the monotonic clock: if the wall clock were set back, the work would stop.
        self._asks_at_s = time.monotonic()

    def __call__(self) -> None:
        """Work until there is nothing to do, another process holds the lease, or `stop` is set.

        Raises:
            DatabaseUnavailableError: the database is unavailable.
        """
        while not self._stop.is_set() and self._has_work() and self._may_work():
            self._work()

    def _may_work(self) -> bool:
        """Return whether this process holds the lease of the loop, after it tried to acquire or renew the lease.

        The answer is cached for a third of the lease's length, to save writes to the database.
        """
        # This saves writes to the database.
        if time.monotonic() >= self._asks_at_s:
            self._asks_at_s = time.monotonic() + LOOP_LEASE_S / 3
            now = self._clock.now_us()
            with self._database.write(durable=False) as unit:
                until = now + int(LOOP_LEASE_S * 1_000_000)
                self._holds = repository.take_lease(unit.session, self._lease, self._owner, now, until)
        return self._holds

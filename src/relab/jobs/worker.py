"""A worker of the job queue: the loop of its back end, and the housekeeping that runs beside every worker."""

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

_log = get_logger(__name__)


def work_until(
    stop: threading.Event, backend: JobBackend, runner: JobRunner, sweeper: Callable[[], None], *, sweep_s: float
) -> None:
    """Be a worker until `stop` is set: run jobs in this thread, and do the housekeeping of the queue in another one.

    Args:
        stop: ends the worker when set; the current job is finished first.
        backend: finds out about new jobs.
        runner: runs the jobs.
        sweeper: does the housekeeping, such as a `Sweeper`.
        sweep_s: time between two calls of the sweeper.
    """
    with sweeping(sweeper, stop, every_s=sweep_s):
        backend.work_until(stop, runner)


@contextmanager
def sweeping(sweep: Callable[[], None], stop: threading.Event, *, every_s: float) -> Iterator[None]:
    """Call `sweep` at once and then every `every_s` seconds in a separate thread while the block runs.

    So a long job does not delay it. While the database is unavailable, it waits and retries. Any other error sets
    `stop` and is raised when the block ends, because a worker without housekeeping would seem healthy but not recover
    lost jobs.
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
        future.add_done_callback(lambda _: stop.set())
        try:
            yield
        finally:
            ended.set()
        future.result()


class Sweeper:
    """Does the housekeeping of the queue every `every_s` seconds, in one process at a time.

    Several workers call it; only the worker that holds the lease in the database does the work.

    Args:
        database: the database of the queue.
        clock: for the times of the lease.
        owner: name of this worker, for the lease.
        work: does the housekeeping.
        every_s: minimum time between two calls of `work`; the lease lasts three times as long.
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

"""The embedded worker, a loop that polls the table, and the housekeeping beside every worker."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import structlog

from relab.core.clock import Clock
from relab.jobs import repository
from relab.jobs.queue import LONGEST_SWEEP_LEASE_US, SWEEP_LEASE
from relab.jobs.runner import JobRunner
from relab.storage import Database
from relab.storage.errors import DatabaseUnavailableError

UNAVAILABLE_PAUSE_S = 1.0

_log = structlog.get_logger(__name__)


def work_until(stop: threading.Event, runner: JobRunner, sweep: Callable[[], None], *, poll_s: float) -> None:
    """Run jobs as they come until `stop` is set; the job in hand is finished first.

    A database that is away is waited for, because a worker that gives up at night helps nobody.
    """
    with sweeping(sweep, stop, every_s=poll_s):
        while not stop.is_set():
            try:
                # Looking costs a read; only a job that is there costs the write lock.
                while not stop.is_set() and runner.has_work() and runner.run_next():
                    pass
            except DatabaseUnavailableError as error:
                _log.warning("worker_waits_for_database", error=str(error))
                stop.wait(UNAVAILABLE_PAUSE_S)
            stop.wait(poll_s)


@contextmanager
def sweeping(sweep: Callable[[], None], stop: threading.Event, *, every_s: float) -> Iterator[None]:
    """Call `sweep` at once and then every `every_s` in a thread while the block runs.

    Beside the jobs, so that a long one does not hold it up. A database that is away is
    waited for; any other error sets `stop` and is raised when the block ends, because a
    worker without housekeeping would look healthy and leave lost jobs lying.
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
    """Does the housekeeping of the queue every `every_s`, on one process at a time.

    Several workers call it; a lease in the database lets one of them do the work.
    """

    def __init__(
        self, database: Database, clock: Clock, owner: str, work: Callable[[], None], *, every_s: float
    ) -> None:
        self._database = database
        self._clock = clock
        self._owner = owner
        self._work = work
        self._every_s = every_s
        # Paced by a clock that is never set back: the wall clock may be, and would stop the sweeping.
        self._due_s = time.monotonic()

    def __call__(self) -> None:
        """Sweep if it is due and nobody else does it.

        Raises:
            DatabaseUnavailableError: the database is away.
        """
        if time.monotonic() < self._due_s:
            return
        self._due_s = time.monotonic() + self._every_s
        now = self._clock.now_us()
        with self._database.write(durable=False) as unit:
            until = now + min(int(3 * self._every_s * 1_000_000), LONGEST_SWEEP_LEASE_US)
            mine = repository.take_lease(unit.session, SWEEP_LEASE, self._owner, now, until)
        if mine:
            self._work()

"""The embedded worker: a loop that polls the table until it is told to stop."""

from __future__ import annotations

import threading
from collections.abc import Callable

import structlog

from relab.core.clock import Clock
from relab.jobs import repository
from relab.jobs.queue import SWEEP_LEASE
from relab.jobs.runner import JobRunner
from relab.storage import Database
from relab.storage.errors import DatabaseUnavailableError

UNAVAILABLE_PAUSE_S = 1.0

_log = structlog.get_logger(__name__)


def work_until(stop: threading.Event, runner: JobRunner, sweep: Callable[[], None], *, poll_s: float) -> None:
    """Run jobs as they come until `stop` is set; the job in hand is finished first.

    A database that is away is waited for, because a worker that gives up at night helps nobody.
    """
    while not stop.is_set():
        try:
            sweep()
            # Looking costs a read; only a job that is there costs the write lock.
            while not stop.is_set() and runner.has_work() and runner.run_next():
                pass
        except DatabaseUnavailableError as error:
            _log.warning("worker_waits_for_database", error=str(error))
            stop.wait(UNAVAILABLE_PAUSE_S)
        stop.wait(poll_s)


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
        self._every_us = int(every_s * 1_000_000)
        self._due = 0

    def __call__(self) -> None:
        """Sweep if it is due and nobody else does it.

        Raises:
            DatabaseUnavailableError: the database is away.
        """
        now = self._clock.now_us()
        if now < self._due:
            return
        self._due = now + self._every_us
        with self._database.write() as unit:
            mine = repository.take_lease(unit.session, SWEEP_LEASE, self._owner, now, now + 3 * self._every_us)
        if mine:
            self._work()

"""The embedded back end. It has no broker; workers poll the table of jobs."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING

from relab.core.clock import Clock
from relab.core.logging import get_logger
from relab.jobs.backend import BackendOptions
from relab.jobs.models import Lane
from relab.storage.errors import DatabaseUnavailableError

if TYPE_CHECKING:
    from relab.jobs.runner import JobRunner
    from relab.storage import Database

_log = get_logger(__name__)


class EmbeddedBackend:
    """The back end without a broker: workers read new jobs from the database every `poll_s` seconds."""

    worker_beside_server = True

    def __init__(self, poll_s: float = 0.1) -> None:
        self._poll_s = poll_s

    def announce(self, job_ids: Sequence[str], lane: Lane) -> None:
        """Do nothing: each worker reads new jobs from the database at its poll interval."""

    def reannounce(self, database: Database, clock: Clock, *, older_than_s: float) -> None:
        """Do nothing: workers find jobs in the database without announcements, so no announcement can be lost."""

    def ping(self) -> None:
        """Do nothing: there is no broker."""

    def work_until(self, stop: threading.Event, runner: JobRunner) -> None:
        """Run jobs of the runner's lanes (urgencies) until `stop` is set; the current job is finished first.

        Jobs of the most urgent lane start first. While the database is unavailable, wait and retry.
        """
        # Only a worker loads this.
        from relab.jobs.worker import UNAVAILABLE_PAUSE_S

        while not stop.is_set():
            try:
                # `has_work` only reads; the write lock is needed only if a job exists.
                while not stop.is_set() and runner.has_work() and runner.run_next():
                    pass
            except DatabaseUnavailableError as error:
                _log.warning("worker_waits_for_database", error=str(error))
                stop.wait(UNAVAILABLE_PAUSE_S)
            stop.wait(self._poll_s)

    def close(self) -> None:
        """Do nothing: there is no connection."""


def open_backend(options: BackendOptions) -> EmbeddedBackend:
    """Return the embedded back end; only the option `poll_s` is used."""
    return EmbeddedBackend(options.poll_s)

"""Run jobs: claim a job, extend its lease while it runs, and record the outcome.

Every worker in both modes uses this runner, so a job is handled the same way however the
worker was woken. A job runs at least once: if a worker dies, its lease expires,
and another worker takes over the job. A worker that lost the lease records no outcome.
"""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from collections.abc import Callable, Iterator, Mapping

import structlog

from relab.core.clock import Clock
from relab.core.errors import RelabError
from relab.core.ids import new_id
from relab.jobs import repository
from relab.jobs.errors import PermanentJobError, UnknownHandlerError
from relab.jobs.models import Job, JobHandler
from relab.storage import Database
from relab.storage.errors import DatabaseUnavailableError

MAX_ERROR_CHARS = 4_000
BACKOFF_FIRST_S = 1.0
BACKOFF_MOST_S = 60.0
SLACK_S = 60.0
"""The tolerated difference between the clocks of two workers, in seconds. Only a larger difference counts as a clock
that was set back."""

_log = structlog.get_logger(__name__)

ParkListener = Callable[[Job, str], None]


def backoff_s(attempts: int) -> float:
    """Return the wait before the next attempt, in seconds, after this number of attempts: 1, 2, 4, … up to 60."""
    return min(BACKOFF_FIRST_S * 2.0 ** max(attempts - 1, 0), BACKOFF_MOST_S)


def worker_name() -> str:
    """Return a globally unique name for a worker of this process."""
    return f"{socket.gethostname()[:100]}:{os.getpid()}:{new_id()}"


class JobRunner:
    """Runs one job at a time for one worker.

    `on_parked` maps job names to listeners. The listener is called, at least once, with every job that
    failed permanently, so that the context can mark its own record as failed.
    """

    def __init__(
        self,
        database: Database,
        clock: Clock,
        handlers: Mapping[str, JobHandler],
        *,
        lease_s: float,
        on_parked: Mapping[str, ParkListener] | None = None,
        owner: str | None = None,
    ) -> None:
        self._database = database
        self._clock = clock
        self._handlers = handlers
        self._lease_us = int(lease_s * 1_000_000)
        self._on_parked = on_parked or {}
        self.owner = owner or worker_name()

    def has_work(self) -> bool:
        """Return whether at least one job is runnable; the read blocks no writer."""
        with self._database.read() as session:
            return repository.has_runnable(session, self._clock.now_us())

    def run_next(self, job_id: str | None = None) -> bool:
        """Claim and run the oldest runnable job, or `job_id`; return False if no such job is runnable.

        Raises:
            DatabaseUnavailableError: the database is unavailable; a claimed job is retried when its lease expires.
        """
        now = self._clock.now_us()
        with self._database.write(durable=False) as unit:
            job = repository.claim(
                unit.session, job_id=job_id, owner=self.owner, now=now, lease_until=now + self._lease_us
            )
        if job is None:
            return False
        with structlog.contextvars.bound_contextvars(job_id=job.job_id, job=job.name):
            self._run(job)
        return True

    def sweep(self, *, keep_done_s: float) -> None:
        """Park jobs whose last attempt died, delete old done jobs, and correct times after the clock was set back.

        Raises:
            DatabaseUnavailableError: the database is unavailable; the next sweep does the work.
        """
        now = self._clock.now_us()
        error = "The worker died or lost its lease during the last allowed attempt."
        with self._database.write(durable=False) as unit:
            mended = repository.mend_times(
                unit.session,
                now=now,
                latest_start=now + int((BACKOFF_MOST_S + SLACK_S) * 1_000_000),
                # Twice the lease, because another worker may be configured with a longer lease.
                latest_lease=now + 2 * self._lease_us + int(SLACK_S * 1_000_000),
                lease_until=now + 2 * self._lease_us + int(SLACK_S * 1_000_000),
            )
            repository.prune_done(unit.session, now - int(keep_done_s * 1_000_000))
            # Lease the jobs as for an attempt: from now on, their former workers cannot finish them, and if this
            # process dies before it has parked a job, another sweep parks it.
            exhausted = repository.take_exhausted(
                unit.session, owner=self.owner, now=now, lease_until=now + self._lease_us
            )
        if mended:
            _log.warning("clock_was_set_back", jobs=mended)
        for job in exhausted:
            _log.error("job_parked", job_id=job.job_id, job=job.name, error=error)
            self._park(job, error)

    def _run(self, job: Job) -> None:
        try:
            handler = self._handler(job.name)
            with self._heartbeat(job.job_id):
                handler(job.args)
        except DatabaseUnavailableError:
            # The outcome cannot be recorded now; the lease expires and the job is retried.
            raise
        except Exception as error:  # noqa: BLE001 whatever a handler raises is recorded with the job
            self._record_failure(job, error)
        else:
            with self._database.write(durable=False) as unit:
                finished = repository.finish(unit.session, job.job_id, self.owner, self._clock.now_us())
            if not finished:
                _log.warning("job_lease_lost")

    def _handler(self, name: str) -> JobHandler:
        handler = self._handlers.get(name)
        if handler is None:
            raise UnknownHandlerError(f"This worker has no handler for jobs named {name!r}.")
        return handler

    def _record_failure(self, job: Job, error: Exception) -> None:
        message = _storable(f"{type(error).__name__}: {error}")
        final = isinstance(error, PermanentJobError) or job.attempts >= job.max_attempts
        now = self._clock.now_us()
        # Log the traceback only of unexpected errors; a `RelabError` explains itself.
        _log.error("job_failed", attempt=job.attempts, final=final, error=message, exc_info=_unexpected(error))
        if not final:
            run_after = now + int(backoff_s(job.attempts) * 1_000_000)
            with self._database.write(durable=False) as unit:
                repository.release(unit.session, job.job_id, self.owner, run_after=run_after, error=message)
            return
        self._park(job, message)

    def _park(self, job: Job, error: str) -> None:
        """Call the park listener of the job, then park the job.

        The order matters: if this process dies in between, the lease expires, and the job is run again
        or parked by the sweeper, so that the listener is called again.
        """
        listener = self._on_parked.get(job.name)
        if listener is not None:
            try:
                listener(job, error)
            except DatabaseUnavailableError:
                raise
            except Exception as failure:  # noqa: BLE001 kept with the job, as a handler's failure is
                # If this error were raised, the job would stay running and stop every worker that claims it.
                _log.error("job_listener_failed", job_id=job.job_id, job=job.name, exc_info=failure)
                error = _storable(f"{error} (and {job.name} was not told: {type(failure).__name__}: {failure})")
        with self._database.write(durable=False) as unit:
            now = self._clock.now_us()
            repository.park(unit.session, job.job_id, self.owner, now=now, error=error)

    @contextlib.contextmanager
    def _heartbeat(self, job_id: str) -> Iterator[None]:
        """Extend the lease of a job in a background thread while the block runs."""
        done = threading.Event()

        def beat() -> None:
            while not done.wait(self._lease_us / 3_000_000):
                try:
                    with self._database.write(durable=False) as unit:
                        held = repository.extend_lease(
                            unit.session, job_id, self.owner, self._clock.now_us() + self._lease_us
                        )
                except DatabaseUnavailableError as error:
                    _log.warning("job_heartbeat_failed", job_id=job_id, error=str(error))
                    continue
                if not held:
                    return

        thread = threading.Thread(target=beat, name=f"heartbeat-{job_id}", daemon=True)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()


def _storable(message: str) -> str:
    """Return a message that every database can store: without NUL and lone surrogates, cut at 4,000 characters."""
    return message[:MAX_ERROR_CHARS].replace("\x00", "").encode(errors="replace").decode()


def _unexpected(error: Exception) -> Exception | None:
    return None if isinstance(error, RelabError) else error

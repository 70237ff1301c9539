"""Running jobs: claim, keep the lease alive, record the outcome.

Used by every worker in both modes, so that what happens to a job does not depend on who
woke the worker. A job runs at least once: a worker that dies leaves a lease that runs
out, and another worker takes the job over. Whoever lost the lease records nothing.
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
"""By how much the clocks of two workers may differ without one of them taking the other's times for a clock that was set back."""

_log = structlog.get_logger(__name__)

ParkListener = Callable[[Job, str], None]


def backoff_s(attempts: int) -> float:
    """Return how long to wait before the next attempt, in seconds: 1, 2, 4, … up to 60."""
    return min(BACKOFF_FIRST_S * 2.0 ** max(attempts - 1, 0), BACKOFF_MOST_S)


def worker_name() -> str:
    """Return a name for a worker of this process that no other worker ever has."""
    return f"{socket.gethostname()[:100]}:{os.getpid()}:{new_id()}"


class JobRunner:
    """Runs one job at a time on behalf of one worker.

    `on_parked` is told of every job that failed for good, by its handler's name, at least
    once; it lets a context mark its own record as failed.
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
        """Return whether a job waits; a read that disturbs no writer."""
        with self._database.read() as session:
            return repository.has_runnable(session, self._clock.now_us())

    def run_next(self, job_id: str | None = None) -> bool:
        """Claim and run the oldest runnable job, or `job_id`; return False when there is none.

        Raises:
            DatabaseUnavailableError: the database is away; the job's lease runs out by itself.
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
        """Park what died on its last attempt, delete old finished jobs, and mend what a clock that was set back has delayed.

        Raises:
            DatabaseUnavailableError: the database is away; the next sweep makes up for it.
        """
        now = self._clock.now_us()
        error = "The worker died or lost its lease during the last allowed attempt."
        with self._database.write(durable=False) as unit:
            mended = repository.mend_times(
                unit.session,
                now=now,
                latest_start=now + int((BACKOFF_MOST_S + SLACK_S) * 1_000_000),
                # Twice, because another worker may be configured with a longer lease.
                latest_lease=now + 2 * self._lease_us + int(SLACK_S * 1_000_000),
                lease_until=now + 2 * self._lease_us + int(SLACK_S * 1_000_000),
            )
            repository.prune_done(unit.session, now - int(keep_done_s * 1_000_000))
            # Leased like for an attempt: from here on, whoever comes back late cannot finish the
            # job, and if this process dies before it has parked it, another sweep takes it up.
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
            # Nothing can be recorded now; the lease runs out and the job is tried again.
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
        # A bug needs its traceback; an error that says its remedy does not.
        _log.error("job_failed", attempt=job.attempts, final=final, error=message, exc_info=_unexpected(error))
        if not final:
            run_after = now + int(backoff_s(job.attempts) * 1_000_000)
            with self._database.write(durable=False) as unit:
                repository.release(unit.session, job.job_id, self.owner, run_after=run_after, error=message)
            return
        self._park(job, message)

    def _park(self, job: Job, error: str) -> None:
        """Tell the listener, then set the job aside.

        In this order: if this process dies in between, the lease runs out and the job is run
        again, or found exhausted by the sweeper, so that the listener is told once more.
        """
        listener = self._on_parked.get(job.name)
        if listener is not None:
            try:
                listener(job, error)
            except DatabaseUnavailableError:
                raise
            except Exception as failure:  # noqa: BLE001 kept with the job, as a handler's failure is
                # To give up here would leave the job running, and stop every worker that meets it.
                _log.error("job_listener_failed", job_id=job.job_id, job=job.name, exc_info=failure)
                error = _storable(f"{error} (and {job.name} was not told: {type(failure).__name__}: {failure})")
        with self._database.write(durable=False) as unit:
            now = self._clock.now_us()
            repository.park(unit.session, job.job_id, self.owner, now=now, error=error)

    @contextlib.contextmanager
    def _heartbeat(self, job_id: str) -> Iterator[None]:
        """Extend the lease in the background while the block runs."""
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
    """Return a message that every database stores: no NUL, no lone surrogate, not too long."""
    return message[:MAX_ERROR_CHARS].replace("\x00", "").encode(errors="replace").decode()


def _unexpected(error: Exception) -> Exception | None:
    return None if isinstance(error, RelabError) else error

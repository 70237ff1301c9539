"""Run jobs: claim a job, extend its lease while it runs, and record the outcome.

The workers of all back ends use this runner. A job may run more than once: if a worker dies, its lease expires, and
another worker takes over the job. A worker that has lost the lease records no outcome.
"""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence

from relab.core.clock import Clock
from relab.core.errors import RelabError
from relab.core.ids import new_id
from relab.core.logging import bound_contextvars, get_logger
from relab.jobs import repository
from relab.jobs.errors import PermanentJobError, UnknownHandlerError
from relab.jobs.models import DEFAULT_TIME_LIMITS_S, LANES, Job, Lane, Subscription
from relab.jobs.time_limit import time_limit
from relab.storage import Database
from relab.storage.errors import DatabaseUnavailableError

MAX_ERROR_CHARS = 4_000
BACKOFF_FIRST_S = 1.0
MAX_BACKOFF_S = 60.0
SLACK_S = 60.0
"""The tolerated difference between the clocks of two workers, in seconds. Only a larger difference counts as a clock
that was set back."""

_log = get_logger(__name__)


def backoff_s(attempts: int) -> float:
    """Return the wait in seconds before the next attempt: 1 after the first attempt, then 2, 4, … up to 60."""
    return min(BACKOFF_FIRST_S * 2.0 ** max(attempts - 1, 0), MAX_BACKOFF_S)


def worker_name() -> str:
    """Return a globally unique name for a worker of this process."""
    return f"{socket.gethostname()[:100]}:{os.getpid()}:{new_id()}"


class JobRunner:
    """Runs jobs for one worker, one job at a time.

    Args:
        database: the database of the queue.
        clock: gives the times of jobs and leases.
        subscriptions: the handlers of jobs. A job runs the handlers of all subscriptions with the job's name.
        lease_s: the length of a lease, in seconds. A worker that does not extend its lease counts as dead.
        lanes: the lanes (urgencies of jobs) that the worker serves, most urgent first.
        time_limits: the maximum running time of a job in seconds, by lane. After this time the lease is not extended
            any more. If the runner works in the main thread, the job is also interrupted.
        owner: the name of the worker in leases; None for a new unique name.
    """

    def __init__(
        self,
        database: Database,
        clock: Clock,
        subscriptions: Iterable[Subscription],
        *,
        lease_s: float,
        lanes: Sequence[Lane] = LANES,
        time_limits: Mapping[Lane, float] = DEFAULT_TIME_LIMITS_S,
        owner: str | None = None,
    ) -> None:
        self._database = database
        self._clock = clock
        self._subscriptions: dict[str, list[Subscription]] = defaultdict(list)
        for subscription in subscriptions:
            self._subscriptions[subscription.name].append(subscription)
        self._lease_us = int(lease_s * 1_000_000)
        self._time_limits = time_limits
        self.lanes = lanes
        self.owner = owner or worker_name()

    def has_work(self) -> bool:
        """Return whether at least one job of this worker's lanes (urgencies) can be run now."""
        with self._database.read() as session:
            return repository.has_runnable(session, self._clock.now_us(), self.lanes)

    def run_next(self, job_id: str | None = None) -> bool:
        """Claim a runnable job, and run it until it succeeds or fails; return False if there is no runnable job.

        Args:
            job_id: the job to run. None: the oldest runnable job in the most urgent of this worker's lanes (urgencies)
                that have a runnable job.

        Raises:
            DatabaseUnavailableError: the database is unavailable. When the lease of a claimed job expires, the job is
                retried, or parked if it has no attempts left.
        """
        now = self._clock.now_us()
        with self._database.write(durable=False) as unit:
            job = repository.claim(
                unit.session,
                job_id=job_id,
                owner=self.owner,
                now=now,
                lease_until=now + self._lease_us,
                lanes=self.lanes,
            )
        if job is None:
            return False
        with bound_contextvars(job_id=job.job_id, job=job.name):
            self._run(job)
        return True

    def sweep(self, *, keep_done_s: float) -> None:
        """Do the housekeeping of the queue.

        - Jobs whose worker died during the last allowed attempt are parked (stored as failed permanently).
        - Jobs that were done more than `keep_done_s` seconds ago are deleted.
        - Times too far in the future, which remain after the clock was set back, are corrected.

        Raises:
            DatabaseUnavailableError: the database is unavailable; the next sweep does the work.
        """
        now = self._clock.now_us()
        error = "The worker died or lost its lease during the last allowed attempt."
        with self._database.write(durable=False) as unit:
            mended = repository.mend_times(
                unit.session,
                now=now,
                latest_start=now + int((MAX_BACKOFF_S + SLACK_S) * 1_000_000),
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
            subscriptions = self._handling(job.name)
            limit_s = self._time_limits[job.lane]
            with self._heartbeat(job.job_id, limit_s), time_limit(limit_s):
                for subscription in subscriptions:
                    subscription.handler(job.args)
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

    def _handling(self, name: str) -> Sequence[Subscription]:
        if name not in self._subscriptions:
            raise UnknownHandlerError(f"This worker has no handler for jobs named {name!r}.")
        return self._subscriptions[name]

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
        """Call the `on_parked` functions of a job's subscriptions, then park the job: store it as failed permanently.

        `error` is stored with the job, together with the errors of these functions.
        """
        # The functions come first: if this process dies before it parks the job, another worker calls them again.
        failures = self.notify_parked(job, error)
        if failures:
            error = _storable(f"{error} (and a listener of {job.name} failed: {failures})")
        with self._database.write(durable=False) as unit:
            now = self._clock.now_us()
            repository.park(unit.session, job.job_id, self.owner, now=now, error=error)

    def notify_parked(self, job: Job, error: str) -> str:
        """Call the `on_parked` functions of a job's subscriptions, because the job will never be done.

        `error` is the reason, which the functions get. Return the errors of the functions as one text, empty without
        errors.

        Raises:
            DatabaseUnavailableError: the database is unavailable; call this method again later.
        """
        failures = []
        for subscription in self._subscriptions.get(job.name, ()):
            if subscription.on_parked is None:
                continue
            try:
                subscription.on_parked(job, error)
            except DatabaseUnavailableError:
                raise
            except Exception as failure:  # noqa: BLE001 kept with the job, as a handler's failure is
                # If this error were raised, the job would stay running and stop every worker that claims it.
                _log.error("job_listener_failed", job_id=job.job_id, job=job.name, exc_info=failure)
                failures.append(f"{type(failure).__name__}: {failure}")
        return "; ".join(failures)

    @contextlib.contextmanager
    def _heartbeat(self, job_id: str, limit_s: float) -> Iterator[None]:
        """Extend the lease of a job again and again, in a background thread, while the `with` block runs.

        After `limit_s` seconds, the lease is no longer extended, so that another worker can take the job over.
        """
        done = threading.Event()
        ends_at = time.monotonic() + limit_s

        def beat() -> None:
            while not done.wait(self._lease_us / 3_000_000):
                if time.monotonic() > ends_at:
                    _log.error("job_over_time_limit", job_id=job_id, limit_s=limit_s)
                    return
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
    """Return a message that every database can store: NUL is removed, and `?` replaces lone surrogates.

    Only the first 4,000 characters are used.
    """
    return message[:MAX_ERROR_CHARS].replace("\x00", "").encode(errors="replace").decode()


def _unexpected(error: Exception) -> Exception | None:
    return None if isinstance(error, RelabError) else error

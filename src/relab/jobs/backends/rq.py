"""The back end on Redis: RQ carries job ids and wakes workers. The state of a job is in the table `jobs`.

RQ alone loses a job if a process dies between commit and enqueue, and does not rerun the jobs of dead workers. Here
neither is a problem. Repeated calls of `reannounce` enqueue every runnable job that RQ does not hold, and the lease in
the table decides which worker runs a job.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING

from relab.core.clock import Clock
from relab.core.errors import ConfigurationError
from relab.core.logging import get_logger
from relab.jobs.backend import BackendOptions
from relab.jobs.errors import BrokerUnavailableError
from relab.jobs.models import Lane

if TYPE_CHECKING:
    from redis import Redis
    from rq import Queue

    from relab.jobs.runner import JobRunner
    from relab.storage import Database

FAILURE_TTL_S = 3_600
REANNOUNCE_BATCH = 500
RESTART_PAUSE_S = 1.0
ANSWER_S = 3
"""Time in seconds after which a Redis that does not connect or answer counts as unavailable."""
BACKSTOP_S = 60
"""Time in seconds after a job's own time limit at which RQ ends the job."""

_log = get_logger(__name__)


class RqBackend:
    """The back end on Redis: it puts job ids on RQ queues, one for each lane (urgency of jobs).

    The most urgent lane has the queue `queue_name`; the others have `queue_name.<lane>`.

    Args:
        redis_url: the address of Redis, with its password.
        queue_name: the name of the queue of the most urgent lane.
        function_path: the dotted name of the function that an RQ worker calls with each id.
        time_limits: maximum time in seconds that a job may run, by lane.
    """

    worker_beside_server = False

    def __init__(self, redis_url: str, queue_name: str, function_path: str, time_limits: Mapping[Lane, float]) -> None:
        self._redis_url = redis_url
        self._queue_name = queue_name
        self._function_path = function_path
        self._time_limits = time_limits
        self._connection: Redis | None = None

    def announce(self, job_ids: Sequence[str], lane: Lane) -> None:
        """Put job ids on the RQ queue of the lane (urgency) `lane`.

        If Redis is unavailable, log a warning; `reannounce` puts the ids on the queue later.
        """
        from redis.exceptions import RedisError

        try:
            for job_id in job_ids:
                self._enqueue(job_id, lane)
        except RedisError as error:
            _log.warning("broker_unavailable", jobs=len(job_ids), error=str(error))

    def reannounce(self, database: Database, clock: Clock, *, older_than_s: float) -> None:
        """Put the ids of runnable jobs on the RQ queues again, because earlier announcements may have been lost.

        Ids that still wait in an RQ queue are left out, as are jobs that were announced in the last `older_than_s`
        seconds. If Redis is unavailable, log a warning.
        """
        from redis.exceptions import RedisError

        from relab.jobs import repository

        now = clock.now_us()
        try:
            self._connected().ping()
            with database.write(durable=False) as unit:
                jobs = repository.take_unannounced(
                    unit.session, now, now - int(older_than_s * 1_000_000), REANNOUNCE_BATCH
                )
            # Ids that still wait in a queue must not be added twice. Read the lists and not RQ's job records: if a
            # worker dies after it took an id, the record of the job still has the status "queued".
            waiting = {job_id for lane in Lane for job_id in self._queue(lane).get_job_ids()} if jobs else set()
            for job_id, lane in jobs:
                if job_id not in waiting:
                    self._enqueue(job_id, lane)
        except RedisError as error:
            _log.warning("broker_unavailable", error=str(error))

    def ping(self) -> None:
        """Check that Redis answers, by a round trip.

        Raises:
            BrokerUnavailableError: Redis cannot be reached.
        """
        from redis.exceptions import RedisError

        try:
            self._connected().ping()
        except RedisError as error:
            raise BrokerUnavailableError(
                f"Redis cannot be reached: {error}.", remedy="Check REDIS_URL and that the server runs."
            ) from error

    def work_until(self, stop: threading.Event, runner: JobRunner) -> None:
        """Run an RQ worker in this process until `stop` is set, or SIGINT or SIGTERM arrives.

        The current job is finished first. The worker serves the runner's lanes (urgencies); jobs of the most urgent
        lane start first. While Redis is unavailable, wait and retry.
        """
        from redis.exceptions import RedisError

        while not stop.is_set():
            try:
                self._work(stop, runner)
            except RedisError as error:
                _log.warning("worker_waits_for_broker", error=str(error))
            # RQ's loop also returns if Redis becomes unavailable during a job; then start it again.
            stop.wait(RESTART_PAUSE_S)

    def close(self) -> None:
        """Close the connection to Redis, if there is one."""
        if self._connection is not None:
            self._connection.close()

    def _work(self, stop: threading.Event, runner: JobRunner) -> None:
        from rq import Queue

        from relab.jobs.stoppable_worker import StoppableWorker

        with self._connect() as connection:
            # RQ takes ids from the first queue that has one, so the order of the lanes is the order of urgency.
            queues = [Queue(self._name_of(lane), connection=connection) for lane in runner.lanes]
            worker = StoppableWorker(queues, connection=connection, stop=stop, answer_s=ANSWER_S)
            try:
                worker.work(logging_level="WARNING")
            finally:
                worker.end()

    def _name_of(self, lane: Lane) -> str:
        return self._queue_name if lane is next(iter(Lane)) else f"{self._queue_name}.{lane}"

    def _queue(self, lane: Lane) -> Queue:
        from rq import Queue

        return Queue(self._name_of(lane), connection=self._connected())

    def _connected(self) -> Redis:
        if self._connection is None:
            self._connection = self._connect()
        return self._connection

    def _connect(self) -> Redis:
        from redis import Redis

        # Older versions of the client wait without a limit by default.
        return Redis.from_url(
            self._redis_url, socket_connect_timeout=ANSWER_S, socket_timeout=ANSWER_S, health_check_interval=30
        )

    def _enqueue(self, job_id: str, lane: Lane) -> None:
        self._queue(lane).enqueue(
            self._function_path,
            job_id,
            job_id=job_id,
            # The runner limits the time; this one only ends what the runner's limit could not.
            job_timeout=int(self._time_limits[lane]) + BACKSTOP_S,
            result_ttl=0,
            failure_ttl=FAILURE_TTL_S,
        )


def open_backend(options: BackendOptions) -> RqBackend:
    """Return the back end on Redis; the option `poll_s` is not used.

    The function only checks that the libraries are installed; they are loaded when the back end is first used.

    Raises:
        ConfigurationError: the address of Redis is not set.
        ModuleNotFoundError: RQ or the client of Redis is not installed.
    """
    for library in ("redis", "rq"):
        if find_spec(library) is None:
            raise ModuleNotFoundError(f"No module named {library!r}", name=library)
    if options.redis_url is None:
        raise ConfigurationError(
            "RELAB_JOBS__BACKEND is rq, but REDIS_URL is not set.",
            remedy="Set REDIS_URL, or use the back end embedded.",
        )
    return RqBackend(options.redis_url, options.queue_name, options.function_path, options.time_limits)

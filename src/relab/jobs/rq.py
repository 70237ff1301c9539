"""The job queue on Redis: RQ transports job ids and wakes workers; the `jobs` table is authoritative.

RQ alone loses a job if a process dies between commit and enqueue, and does not rerun the jobs of
dead workers. Here neither is a problem: `reannounce` enqueues every runnable job that
RQ does not hold, and the lease decides which worker runs it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import structlog

from relab.core.clock import Clock
from relab.jobs import repository
from relab.jobs.errors import BrokerUnavailableError
from relab.jobs.worker import sweeping
from relab.storage import Database

if TYPE_CHECKING:
    from redis import Redis
    from rq import Queue

JOB_TIMEOUT_S = 600
FAILURE_TTL_S = 3_600
REANNOUNCE_BATCH = 500
RESTART_PAUSE_S = 1.0

_log = structlog.get_logger(__name__)


class RqAnnouncer:
    """Puts job ids on an RQ queue; RQ calls the function at `function_path` with each id."""

    def __init__(self, redis_url: str, queue_name: str, function_path: str) -> None:
        self._redis_url = redis_url
        self._queue_name = queue_name
        self._function_path = function_path
        self._connection: Redis | None = None

    def announce(self, job_ids: Sequence[str]) -> None:
        """Put job ids on the queue; if Redis is unavailable, log a warning, and `reannounce` enqueues them later."""
        from redis.exceptions import RedisError

        try:
            queue = self._queue()
            for job_id in job_ids:
                self._enqueue(queue, job_id)
        except RedisError as error:
            _log.warning("broker_unavailable", jobs=len(job_ids), error=str(error))

    def reannounce(self, database: Database, clock: Clock, *, older_than_s: float) -> None:
        """Announce the runnable jobs not announced in the last `older_than_s` seconds and not in the RQ queue."""
        from redis.exceptions import RedisError

        now = clock.now_us()
        try:
            queue = self._queue()
            queue.connection.ping()
            with database.write(durable=False) as unit:
                job_ids = repository.take_unannounced(
                    unit.session, now, now - int(older_than_s * 1_000_000), REANNOUNCE_BATCH
                )
            # Ids that still wait in the queue must not be added twice. Read the list and not RQ's job records: if a
            # worker dies after it took an id, the record of the job still has the status "queued".
            waiting = frozenset(queue.get_job_ids()) if job_ids else frozenset()
            for job_id in job_ids:
                if job_id not in waiting:
                    self._enqueue(queue, job_id)
        except RedisError as error:
            _log.warning("broker_unavailable", error=str(error))

    def ping(self) -> None:
        """Make a round trip to Redis.

        Raises:
            BrokerUnavailableError: Redis cannot be reached.
        """
        from redis.exceptions import RedisError

        try:
            self._queue().connection.ping()
        except RedisError as error:
            raise BrokerUnavailableError(
                f"Redis cannot be reached: {error}.", remedy="Check REDIS_URL and that the server runs."
            ) from error

    def work_until(self, stop: threading.Event, sweep: Callable[[], None], *, sweep_every_s: float) -> None:
        """Run an RQ worker in this process until `stop` is set or a signal arrives.

        Call it in the main thread, because RQ installs signal handlers and alarms. While Redis
        is unavailable, it waits and retries.
        """
        from redis.exceptions import RedisError

        with sweeping(sweep, stop, every_s=sweep_every_s):
            while not stop.is_set():
                try:
                    self._work(stop)
                except RedisError as error:
                    _log.warning("worker_waits_for_broker", error=str(error))
                # RQ's loop also returns if Redis becomes unavailable during a job; then start it again.
                stop.wait(RESTART_PAUSE_S)

    def close(self) -> None:
        """Close the connection."""
        if self._connection is not None:
            self._connection.close()

    def _work(self, stop: threading.Event) -> None:
        from rq import Queue

        from relab.jobs.rq_worker import StoppableWorker

        with self._connect() as connection:
            worker = StoppableWorker([Queue(self._queue_name, connection=connection)], connection=connection, stop=stop)
            try:
                worker.work(logging_level="WARNING")
            finally:
                worker.end()

    def _queue(self) -> Queue:
        from rq import Queue

        if self._connection is None:
            self._connection = self._connect()
        return Queue(self._queue_name, connection=self._connection)

    def _connect(self) -> Redis:
        from redis import Redis

        return Redis.from_url(self._redis_url, socket_connect_timeout=3, health_check_interval=30)

    def _enqueue(self, queue: Queue, job_id: str) -> None:
        queue.enqueue(
            self._function_path,
            job_id,
            job_id=job_id,
            job_timeout=JOB_TIMEOUT_S,
            result_ttl=0,
            failure_ttl=FAILURE_TTL_S,
        )

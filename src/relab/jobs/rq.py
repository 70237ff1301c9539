"""The queue on Redis: RQ carries ids and wakes workers; the `jobs` table stays the truth.

RQ alone loses a job when a process dies between commit and enqueue, and sets jobs of
dead workers aside. Here neither matters: `reannounce` hands every runnable job that
RQ does not hold to RQ again, and the lease decides who runs it.
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
    """Puts job ids on an RQ queue, to be run by the function at `function_path`."""

    def __init__(self, redis_url: str, queue_name: str, function_path: str) -> None:
        self._redis_url = redis_url
        self._queue_name = queue_name
        self._function_path = function_path
        self._connection: Redis | None = None

    def announce(self, job_ids: Sequence[str]) -> None:
        """Put ids on the queue; a Redis that is down is logged, and made up for by `reannounce`."""
        from redis.exceptions import RedisError

        try:
            queue = self._queue()
            for job_id in job_ids:
                self._enqueue(queue, job_id)
        except RedisError as error:
            _log.warning("broker_unavailable", jobs=len(job_ids), error=str(error))

    def reannounce(self, database: Database, clock: Clock, *, older_than_s: float) -> None:
        """Announce the runnable jobs that were last announced `older_than_s` ago and that RQ no longer holds."""
        from redis.exceptions import RedisError

        now = clock.now_us()
        try:
            queue = self._queue()
            queue.connection.ping()
            with database.write(durable=False) as unit:
                job_ids = repository.take_unannounced(
                    unit.session, now, now - int(older_than_s * 1_000_000), REANNOUNCE_BATCH
                )
            # What still waits would only wait twice. The list itself is asked, not RQ's job records:
            # a worker that dies with an id in hand leaves a record that says "queued".
            waiting = frozenset(queue.get_job_ids()) if job_ids else frozenset()
            for job_id in job_ids:
                if job_id not in waiting:
                    self._enqueue(queue, job_id)
        except RedisError as error:
            _log.warning("broker_unavailable", error=str(error))

    def ping(self) -> None:
        """Make a round trip to Redis.

        Raises:
            BrokerUnavailableError: it cannot be reached.
        """
        from redis.exceptions import RedisError

        try:
            self._queue().connection.ping()
        except RedisError as error:
            raise BrokerUnavailableError(
                f"Redis cannot be reached: {error}.", remedy="Check REDIS_URL and that the server runs."
            ) from error

    def work_until(self, stop: threading.Event, sweep: Callable[[], None], *, sweep_every_s: float) -> None:
        """Run an RQ worker in this process until `stop` is set or a signal comes.

        To be called in the main thread: RQ installs signal handlers and alarms. A Redis that
        is away is waited for.
        """
        from redis.exceptions import RedisError

        with sweeping(sweep, stop, every_s=sweep_every_s):
            while not stop.is_set():
                try:
                    self._work(stop)
                except RedisError as error:
                    _log.warning("worker_waits_for_broker", error=str(error))
                # RQ's loop also returns when Redis goes away during a job; then begin anew.
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

"""The queue on Redis: RQ carries ids and wakes workers; the `jobs` table stays the truth.

RQ alone loses a job when a process dies between commit and enqueue, and sets jobs of
dead workers aside. Here neither matters: `reannounce` hands every runnable job that
RQ does not hold to RQ again, and the lease decides who runs it.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import structlog

from relab.core.clock import Clock
from relab.jobs import repository
from relab.jobs.errors import BrokerUnavailableError
from relab.storage import Database
from relab.storage.errors import DatabaseUnavailableError

if TYPE_CHECKING:
    from redis import Redis
    from rq import Queue

JOB_TIMEOUT_S = 600
FAILURE_TTL_S = 3_600
REANNOUNCE_BATCH = 500

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
        from rq.job import Job as RqJob

        now = clock.now_us()
        try:
            queue = self._queue()
            queue.connection.ping()
            with database.write() as unit:
                job_ids = repository.take_unannounced(
                    unit.session, now, now - int(older_than_s * 1_000_000), REANNOUNCE_BATCH
                )
            held = RqJob.fetch_many(list(job_ids), connection=queue.connection)
            for job_id, rq_job in zip(job_ids, held, strict=True):
                # What is still queued would only be queued twice.
                if rq_job is None or not rq_job.is_queued:
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
        """Run an RQ worker in this process until `stop` is set or a signal ends it.

        The sweeper runs beside it in a thread, so that a long job does not hold it up.
        """
        from rq import Queue, SimpleWorker

        def sweep_loop() -> None:
            while not stop.wait(sweep_every_s):
                try:
                    sweep()
                except DatabaseUnavailableError as error:
                    _log.warning("worker_waits_for_database", error=str(error))

        def stop_worker() -> None:
            stop.wait()
            # RQ's own way to a warm stop: it finishes the job in hand.
            os.kill(os.getpid(), signal.SIGTERM)

        for name, target in (("job-sweeper", sweep_loop), ("worker-stop", stop_worker)):
            threading.Thread(target=target, name=name, daemon=True).start()
        connection = self._connect()
        # Without forking: the pools and threads of this process would not survive a fork.
        SimpleWorker([Queue(self._queue_name, connection=connection)], connection=connection).work()

    def close(self) -> None:
        """Close the connection."""
        if self._connection is not None:
            self._connection.close()

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

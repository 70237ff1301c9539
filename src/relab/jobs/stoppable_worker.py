"""An RQ worker that can be stopped between two jobs."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from types import FrameType

from redis import Redis
from redis.client import PubSubWorkerThread
from rq import Queue, SimpleWorker
from rq.job import Job as RqJob

POLL_S = 1
"""Time in seconds that the worker waits for a job before it checks whether to stop."""


class StoppableWorker(SimpleWorker):
    """An RQ worker that runs jobs in this process until `stop` is set or a signal arrives; it finishes its current job.

    Args:
        queues: the queues to serve, most urgent first.
        connection: the connection to Redis.
        stop: ends the worker when set.
        answer_s: the time in seconds after which a Redis that does not answer counts as unavailable.
    """

    max_connection_wait_time = 2.0

    def __init__(self, queues: Sequence[Queue], *, connection: Redis, stop: threading.Event, answer_s: int) -> None:
        # RQ's constructor reads it.
        self._answer_s = answer_s
        # Do not fork: the pools and threads of this process would not survive a fork.
        super().__init__(queues, connection=connection)
        self._until = stop

    @property
    def connection_timeout(self) -> int:
        """The time in seconds that RQ waits for an answer of Redis, including the wait for a job."""
        # By default seven minutes, because RQ waits that long for a job. A worker whose Redis does not answer would neither
        # stop nor reconnect in this time.
        return POLL_S + self._answer_s

    def request_stop(self, signum: int, frame: FrameType | None) -> None:  # noqa: ARG002 RQ's parameters
        """Request a stop after the current job; RQ installs this as the handler of SIGINT and SIGTERM."""
        # RQ's own stop raises an exception from the signal handler, and a second signal kills the current job.
        self._until.set()

    def dequeue_job_and_maintain_ttl(
        self,
        timeout: int | None,  # noqa: ARG002 RQ's parameter, for a wait that no flag could end
        max_idle_time: int | None = None,  # noqa: ARG002 RQ's parameter
    ) -> tuple[RqJob, Queue] | None:
        """Wait for the next job and return it; return None after `stop` was set, which ends RQ's loop.

        The arguments, which RQ passes, are not used.
        """
        while not self._until.is_set():
            found = super().dequeue_job_and_maintain_ttl(POLL_S, POLL_S)
            if found is not None:
                return found
        return None

    def end(self) -> None:
        """Stop the worker's pub/sub thread when the worker ends.

        RQ itself does not stop this thread if Redis is unavailable.
        """
        thread: PubSubWorkerThread | None = self.pubsub_thread
        if thread is not None:
            thread.stop()

"""The RQ worker of `lab worker`: it stops gracefully, and waits while Redis is unavailable.

It is a separate module from `rq.py` because it imports RQ, which is not installed in an embedded installation.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from types import FrameType

from redis import Redis
from redis.client import PubSubWorkerThread
from rq import Queue, SimpleWorker
from rq.job import Job as RqJob

LOOK_S = 1
"""How long the worker waits for a job before it checks whether to stop, in seconds."""


class StoppableWorker(SimpleWorker):
    """Runs jobs in this process until `stop` is set or a signal arrives; it finishes the current job first.

    It does not fork, because the pools and threads of this process would not survive a fork.
    RQ's own graceful stop raises an exception from a signal handler, and a second signal
    during a job kills that job; the flag `stop` avoids both.
    """

    max_connection_wait_time = 2.0

    def __init__(self, queues: Sequence[Queue], *, connection: Redis, stop: threading.Event) -> None:
        super().__init__(queues, connection=connection)
        self._until = stop

    def request_stop(self, signum: int, frame: FrameType | None) -> None:  # noqa: ARG002 RQ's parameters
        """Request a stop after the current job; RQ installs this as the handler of SIGINT and SIGTERM."""
        self._until.set()

    def dequeue_job_and_maintain_ttl(
        self,
        timeout: int | None,  # noqa: ARG002 RQ's parameter, for a wait that no flag could end
        max_idle_time: int | None = None,  # noqa: ARG002 RQ's parameter
    ) -> tuple[RqJob, Queue] | None:
        """Wait for the next job and return it; return None after `stop` was set, which ends RQ's loop."""
        while not self._until.is_set():
            found = super().dequeue_job_and_maintain_ttl(LOOK_S, LOOK_S)
            if found is not None:
                return found
        return None

    def end(self) -> None:
        """Stop the pub/sub thread, which RQ does not stop if Redis is unavailable at the end."""
        thread: PubSubWorkerThread | None = self.pubsub_thread
        if thread is not None:
            thread.stop()

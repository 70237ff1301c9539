"""The RQ worker inside `lab worker`: it stops softly, and waits for a Redis that is away.

Apart from `rq.py` because it needs RQ to be imported, which an embedded installation lacks.
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
"""How long the worker waits on the queue before it looks whether it shall stop."""


class StoppableWorker(SimpleWorker):
    """Runs jobs in this process until `stop` is set or a signal comes; the job in hand is finished first.

    Without forking, because the pools and threads of this process would not survive a fork.
    RQ's own soft stop raises an exception out of a signal handler, and a second signal
    within the job in hand kills that job; a flag does neither.
    """

    max_connection_wait_time = 2.0

    def __init__(self, queues: Sequence[Queue], *, connection: Redis, stop: threading.Event) -> None:
        super().__init__(queues, connection=connection)
        self._until = stop

    def request_stop(self, signum: int, frame: FrameType | None) -> None:  # noqa: ARG002 RQ's parameters
        """Stop after the job in hand: what RQ has SIGINT and SIGTERM call."""
        self._until.set()

    def dequeue_job_and_maintain_ttl(
        self,
        timeout: int | None,  # noqa: ARG002 RQ's parameter, for a wait that no flag could end
        max_idle_time: int | None = None,  # noqa: ARG002 RQ's parameter
    ) -> tuple[RqJob, Queue] | None:
        """Return the next job, or None when it is time to stop, which ends RQ's loop."""
        while not self._until.is_set():
            found = super().dequeue_job_and_maintain_ttl(LOOK_S, LOOK_S)
            if found is not None:
                return found
        return None

    def end(self) -> None:
        """Stop the listening thread, which RQ leaves running when Redis was away at the end."""
        thread: PubSubWorkerThread | None = self.pubsub_thread
        if thread is not None:
            thread.stop()

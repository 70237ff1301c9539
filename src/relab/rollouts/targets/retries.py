"""Repeat a request after a temporary failure, a few times with growing pauses, and count the repetitions."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Final, TypeVar

from relab.core.logging import get_logger
from relab.rollouts.errors import RequestFailedError

_PAUSES_S: Final = (0.2, 0.5, 1.0, 2.0)
"""The pauses before the second to the fifth attempt, in seconds."""
_MAX_TIME_S: Final = 5.0
"""After this time, in seconds, a request is not repeated, unless only one attempt was made."""

_Result = TypeVar("_Result")
_log = get_logger(__name__)


class RetryLog:
    """Counts the repetitions of requests to a target, for a warning in the report. Several threads may use it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._number = 0
        self._reason = ""

    def add(self, error: RequestFailedError) -> None:
        """Count one repetition of a request, and log `error`, its reason."""
        _log.warning("rollout_request_repeated", error=error.message)
        with self._lock:
            self._number += 1
            self._reason = self._reason or error.message

    def sentences(self) -> tuple[str, ...]:
        """Return one sentence with the number of repetitions and the first reason; an empty tuple if there are none."""
        with self._lock:
            if not self._number:
                return ()
            requests = "1 request" if self._number == 1 else f"{self._number} requests"
            return (f"{requests} for flags or figures had to be repeated. The first reason: {self._reason}",)


def repeated(attempt: Callable[[], _Result], retries: RetryLog) -> _Result:
    """Call `attempt` and return its result; after a `RequestFailedError`, call it again, and count this in `retries`.

    There are at most five calls, with growing pauses. If the first call fails, a second one always follows. A third or
    later call follows only if at most 5 s have passed since the first one began. `attempt` must be idempotent: two
    calls must have the same effect as one call.

    Raises:
        RequestFailedError: the last attempt failed.
    """
    began_s = time.monotonic()
    for number, pause_s in enumerate(_PAUSES_S):
        try:
            return attempt()
        except RequestFailedError as error:
            if number and time.monotonic() - began_s > _MAX_TIME_S:
                raise
            retries.add(error)
        time.sleep(pause_s)
    return attempt()

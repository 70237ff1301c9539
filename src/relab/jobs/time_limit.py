"""The time limit of a job."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from relab.jobs.errors import JobTimeoutError


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Interrupt the block when it has run for `seconds`.

    It uses the alarm signal, which also ends a blocking system call, so it works in the main thread alone; in
    another thread the block is not interrupted. An alarm that was set before continues after the block.

    Raises:
        JobTimeoutError: the block ran too long.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        raise JobTimeoutError(f"The job ran longer than its limit of {seconds:g} s.")

    started = time.monotonic()
    handler = signal.signal(signal.SIGALRM, interrupt)
    outer_s, _ = signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        left_s = max(outer_s - (time.monotonic() - started), 0.001) if outer_s else 0.0
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, handler)
        signal.setitimer(signal.ITIMER_REAL, left_s)

"""Interrupt a job that runs longer than its time limit."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from relab.jobs.errors import JobTimeoutError

_REPEAT_S = 10.0
"""Time between two alarms: a block may swallow the first one, and must be able to clean up after it."""


class _TimeIsUpError(KeyboardInterrupt):
    """Raised in a job when its time limit has passed.

    It is a KeyboardInterrupt, because drivers and event loops clean up after a Ctrl-C. For example, psycopg cancels the
    query.
    """


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Interrupt the `with` block by a KeyboardInterrupt when it has run for `seconds`.

    The interruption also ends a blocking system call. Outside the main thread, the block is never interrupted. If the
    process had set an alarm (`signal.setitimer`) before, this alarm is restored after the block.

    Raises:
        JobTimeoutError: the interruption ended the block. This error replaces any other error that the interruption has
            caused. It is not raised if the block catches the interruption and ends without an error.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    is_over = is_ended = False

    def timeout() -> JobTimeoutError:
        return JobTimeoutError(f"The job ran longer than its limit of {seconds:g} s.")

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        nonlocal is_over
        # An alarm that arrives after the end must not prevent the restoration of the former one.
        if not is_ended:
            is_over = True
            raise _TimeIsUpError

    started = time.monotonic()
    handler = signal.signal(signal.SIGALRM, interrupt)
    outer_s, interval_s = signal.setitimer(signal.ITIMER_REAL, seconds, _REPEAT_S)
    try:
        try:
            yield
        finally:
            is_ended = True
    except _TimeIsUpError:
        raise timeout() from None
    except Exception as error:
        if is_over:
            # For example, closing an interrupted connection failed.
            raise timeout() from error
        raise
    finally:
        is_ended = True
        left_s = max(outer_s - (time.monotonic() - started), 0.001) if outer_s else 0.0
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, handler)
        signal.setitimer(signal.ITIMER_REAL, left_s, interval_s)

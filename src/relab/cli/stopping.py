"""Treat Ctrl-C as a request to stop: the command finishes its present step, and keeps the results so far."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Event


@contextmanager
def stoppable() -> Iterator[Event]:
    """Yield an event that Ctrl-C or SIGTERM sets; a second signal has no effect."""
    stop = Event()

    def pressed(_number: int, _frame: object) -> None:
        stop.set()

    kept = {number: signal.signal(number, pressed) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in kept.items():
            signal.signal(number, handler)

"""What Ctrl-C and SIGTERM do in a block of a command: request a stop after the present step, or interrupt it."""

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


@contextmanager
def interruptible() -> Iterator[None]:
    """Let Ctrl-C and SIGTERM raise `KeyboardInterrupt` while the block runs."""
    kept = {number: signal.signal(number, signal.default_int_handler) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in kept.items():
            signal.signal(number, handler)

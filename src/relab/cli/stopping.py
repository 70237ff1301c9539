"""Replace the effect of Ctrl-C and SIGTERM while a block runs."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Event


@contextmanager
def stoppable() -> Iterator[Event]:
    """Yield an event that Ctrl-C or SIGTERM sets; a second signal has no effect."""
    stop = Event()
    with stop_signals(stop.set):
        yield stop


@contextmanager
def stop_signals(pressed: Callable[[], object]) -> Iterator[None]:
    """Call `pressed` at each Ctrl-C or SIGTERM in the block, in place of the usual effect of these signals."""
    kept = {number: signal.signal(number, lambda *_: pressed()) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in kept.items():
            signal.signal(number, handler)


@contextmanager
def interruptible() -> Iterator[None]:
    """While the block runs, the first Ctrl-C or SIGTERM raises `KeyboardInterrupt`; later signals have no effect."""
    interrupted = Event()

    def pressed() -> None:
        if not interrupted.is_set():
            interrupted.set()
            raise KeyboardInterrupt

    with stop_signals(pressed):
        yield

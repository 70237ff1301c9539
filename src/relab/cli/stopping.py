"""Replace the effect of Ctrl-C, SIGTERM and SIGHUP while a block runs."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Event


@contextmanager
def stoppable() -> Iterator[Event]:
    """Yield an event that Ctrl-C, SIGTERM or SIGHUP sets; a second signal has no effect.

    A process receives SIGHUP when its terminal is closed or its SSH connection is lost. If the process ignores SIGHUP,
    because `nohup` started it, it continues to ignore the signal.
    """
    stop = Event()
    ignores_hangup = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    with stop_signals(stop.set, *(() if ignores_hangup else (signal.SIGHUP,))):
        yield stop


@contextmanager
def stop_signals(pressed: Callable[[], object], *others: signal.Signals) -> Iterator[None]:
    """Call `pressed` at each Ctrl-C, SIGTERM or signal of `others` in the block, in place of their usual effect."""
    numbers = (signal.SIGINT, signal.SIGTERM, *others)
    kept = {number: signal.signal(number, lambda *_: pressed()) for number in numbers}
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

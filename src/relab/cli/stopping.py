"""Replace the effect of Ctrl-C, SIGTERM and SIGHUP while a block runs."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Event


@contextmanager
def stoppable() -> Iterator[Event]:
    """Yield an event that Ctrl-C, SIGTERM or the end of the terminal (`at_hangup`) sets; a second one has no effect."""
    stop = Event()
    with stop_signals(stop.set), at_hangup(stop.set):
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
def at_hangup(stop: Callable[[], object]) -> Iterator[None]:
    """Call `stop` at each SIGHUP in the block, in place of ending this process.

    A process receives SIGHUP when its terminal is closed or its SSH connection is lost. What is written to the closed
    terminal is then discarded, because writing would fail. If this process ignores SIGHUP, because `nohup` started it,
    it continues to ignore the signal.
    """
    if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
        yield
        return
    # A terminal that was closed can no longer be recognised.
    terminals = [stream.fileno() for stream in (sys.stdout, sys.stderr) if stream.isatty()]

    def discard_and_stop(*_: object) -> None:
        nothing = os.open(os.devnull, os.O_WRONLY)
        for terminal in terminals:
            os.dup2(nothing, terminal)
        os.close(nothing)
        stop()

    kept = signal.signal(signal.SIGHUP, discard_and_stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGHUP, kept)


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

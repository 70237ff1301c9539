"""Start programs with the default action of each signal, also where this process inherited that a signal is ignored.

A process that `nohup` starts ignores SIGHUP, and a process in the background of a script ignores SIGINT and SIGQUIT. Its
child processes inherit that. A harness would then behave differently at night: for example, `pexpect` ends programs with
SIGHUP, and a shell script cannot trap a signal that it inherited as ignored.
"""

from __future__ import annotations

import ctypes
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

_OF_PYTHON: Final = frozenset({signal.SIGPIPE, signal.SIGXFSZ})
"""Python itself ignores these signals; `subprocess` restores their default action in child processes."""
_SIG_IGN: Final = 1


@contextmanager
def default_signals() -> Iterator[None]:
    """Let programs that are started in the block have the default action of signals that this process ignores.

    In the block, this process catches these signals by a function without an effect, so it still ignores them.
    execve(2) resets caught signals to their default action; ignored signals stay ignored. Any thread may use it, but
    only one at a time.
    """
    ignored = [number for number in signal.valid_signals() - _OF_PYTHON if signal.getsignal(number) is signal.SIG_IGN]
    if not ignored:
        yield
        return
    libc = ctypes.CDLL(None)
    # `signal.signal` works in the main thread only.
    libc.signal.argtypes, libc.signal.restype = (ctypes.c_int, ctypes.c_void_p), ctypes.c_void_p
    # abs(3) takes an integer, as a handler does, and has no effect, so it is safe in a signal handler.
    without_effect = ctypes.cast(libc.abs, ctypes.c_void_p)
    for number in ignored:
        libc.signal(number, without_effect)
    try:
        yield
    finally:
        for number in ignored:
            # The main thread may have set a handler in the meantime.
            if signal.getsignal(number) is signal.SIG_IGN:
                libc.signal(number, _SIG_IGN)

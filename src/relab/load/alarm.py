"""Being woken at a time, to a few hundredths of a millisecond, by an event loop that counts in whole ones."""

from __future__ import annotations

import asyncio
import ctypes
import os
import sys
import time
from collections.abc import Callable
from typing import Protocol

_NS_PER_S = 1_000_000_000
_LOOP_TICK_S = 0.001
"""What uvloop's own timers can tell apart."""
_CLOCK_MONOTONIC = 1
_TFD_NONBLOCK = 0o4000
_TFD_CLOEXEC = 0o2000000
_TFD_TIMER_ABSTIME = 1
_IS_LINUX = sys.platform == "linux"


class Alarm(Protocol):
    """Calls back once for each `set`, at or shortly after the time."""

    def set(self, at_ns: int) -> None:
        """Ask to be called at a time of `time.monotonic_ns`, which may be past; replaces what was asked before."""
        ...

    def close(self) -> None:
        """Call back no more."""
        ...


def make_alarm(loop: asyncio.AbstractEventLoop, wake: Callable[[], None]) -> Alarm:
    """Return the most precise alarm that this system has."""
    if _IS_LINUX:
        return KernelAlarm(loop, wake)
    return LoopAlarm(loop, wake)


class _Spec(ctypes.Structure):
    """The kernel's itimerspec: seconds and ns of the interval and of the first time."""

    _fields_ = (
        ("interval_s", ctypes.c_long),
        ("interval_ns", ctypes.c_long),
        ("value_s", ctypes.c_long),
        ("value_ns", ctypes.c_long),
    )


class KernelAlarm:
    """A timer of the kernel (timerfd, Linux) that the loop waits for like for a socket: precise, and no CPU spent.

    Raises:
        OSError: the kernel gives no timer.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, wake: Callable[[], None]) -> None:
        # Python has no call for it before 3.13.
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._descriptor = self._libc.timerfd_create(_CLOCK_MONOTONIC, _TFD_NONBLOCK | _TFD_CLOEXEC)
        if self._descriptor < 0:
            raise OSError(ctypes.get_errno(), "timerfd_create")
        self._loop = loop
        self._wake = wake
        self._spec = _Spec(0, 0, 0, 0)
        self._pointer = ctypes.byref(self._spec)
        loop.add_reader(self._descriptor, self._rung)

    def set(self, at_ns: int) -> None:
        """Ask to be called at a time of `time.monotonic_ns`."""
        # A time of zero would take the timer back instead of letting it ring at once.
        self._spec.value_s, self._spec.value_ns = divmod(max(at_ns, 1), _NS_PER_S)
        if self._libc.timerfd_settime(self._descriptor, _TFD_TIMER_ABSTIME, self._pointer, None) != 0:
            raise OSError(ctypes.get_errno(), "timerfd_settime")

    def close(self) -> None:
        """Give the timer back."""
        if self._descriptor >= 0:
            self._loop.remove_reader(self._descriptor)
            os.close(self._descriptor)
            self._descriptor = -1

    def _rung(self) -> None:
        try:
            os.read(self._descriptor, 8)
        except BlockingIOError:
            # It was set anew between its ringing and now.
            return
        self._wake()


class LoopAlarm:
    """The loop's own timer up to the last two milliseconds, which pass in turns of the loop: any system, some CPU."""

    def __init__(self, loop: asyncio.AbstractEventLoop, wake: Callable[[], None]) -> None:
        self._loop = loop
        self._wake = wake
        self._at_ns = 0
        self._handle: asyncio.Handle | None = None

    def set(self, at_ns: int) -> None:
        """Ask to be called at a time of `time.monotonic_ns`."""
        self.close()
        self._at_ns = at_ns
        self._wait()

    def close(self) -> None:
        """Call back no more."""
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None

    def _wait(self) -> None:
        left_s = (self._at_ns - time.monotonic_ns()) / _NS_PER_S
        if left_s > 2 * _LOOP_TICK_S:
            self._handle = self._loop.call_later(left_s - 2 * _LOOP_TICK_S, self._wait)
        elif left_s > 0:
            self._handle = self._loop.call_soon(self._wait)
        else:
            self._handle = self._loop.call_soon(self._wake)

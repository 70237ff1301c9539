"""Timers that are precise to a few hundredths of a millisecond; the event loop's own timers use whole milliseconds."""

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
"""The resolution of uvloop's own timers, in seconds."""
_CLOCK_MONOTONIC = 1
_TFD_NONBLOCK = 0o4000
_TFD_CLOEXEC = 0o2000000
_TFD_TIMER_ABSTIME = 1
_IS_LINUX = sys.platform == "linux"


class Alarm(Protocol):
    """A timer for one function. It calls the function once after each `set`, at the given time or shortly later."""

    def set(self, at_ns: int) -> None:
        """Set the time at which the timer calls its function next, in ns of the clock `time.monotonic_ns`.

        The time may be in the past. A new time replaces the earlier one.
        """
        ...

    def close(self) -> None:
        """Stop the timer for good; it does not call the function any more."""
        ...


def make_alarm(loop: asyncio.AbstractEventLoop, wake: Callable[[], None]) -> Alarm:
    """Return the most precise alarm that this operating system offers; it calls `wake` in the event loop."""
    if _IS_LINUX:
        return KernelAlarm(loop, wake)
    return LoopAlarm(loop, wake)


class _Spec(ctypes.Structure):
    """The kernel's structure `itimerspec`: a timer's interval and its first expiry, each in seconds and nanoseconds."""

    _fields_ = (
        ("interval_s", ctypes.c_long),
        ("interval_ns", ctypes.c_long),
        ("value_s", ctypes.c_long),
        ("value_ns", ctypes.c_long),
    )


class KernelAlarm:
    """An alarm that uses a kernel timer (timerfd, Linux), which the event loop polls like a socket.

    It is precise, and takes no CPU time while it waits.

    Args:
        loop: the event loop.
        wake: the function to call.

    Raises:
        OSError: the kernel cannot create the timer.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, wake: Callable[[], None]) -> None:
        # Python has no function for timerfd before 3.13.
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
        """Set the time at which the alarm calls its function next, in ns of the clock `time.monotonic_ns`.

        Raises:
            OSError: the kernel rejects the time.
        """
        # A time of zero would disarm the timer instead of firing it at once.
        self._spec.value_s, self._spec.value_ns = divmod(max(at_ns, 1), _NS_PER_S)
        if self._libc.timerfd_settime(self._descriptor, _TFD_TIMER_ABSTIME, self._pointer, None) != 0:
            raise OSError(ctypes.get_errno(), "timerfd_settime")

    def close(self) -> None:
        """Close the timer's file descriptor; the alarm does not call the function any more."""
        if self._descriptor >= 0:
            self._loop.remove_reader(self._descriptor)
            os.close(self._descriptor)
            self._descriptor = -1

    def _rung(self) -> None:
        try:
            os.read(self._descriptor, 8)
        except BlockingIOError:
            # The timer was set again after it had fired, before this call.
            return
        self._wake()


class LoopAlarm:
    """A timer that calls a function once at a given time, on any operating system.

    It uses the event loop's own timer, and polls the clock in the last two milliseconds.

    Args:
        loop: the event loop.
        wake: the function to call.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, wake: Callable[[], None]) -> None:
        self._loop = loop
        self._wake = wake
        self._at_ns = 0
        self._handle: asyncio.Handle | None = None

    def set(self, at_ns: int) -> None:
        """Set the time at which the alarm calls its function next, in ns of the clock `time.monotonic_ns`."""
        self.close()
        self._at_ns = at_ns
        self._wait()

    def close(self) -> None:
        """Stop the timer; the alarm does not call the function any more, unless `set` is called again."""
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

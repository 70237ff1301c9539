"""Wait for a condition, with a deadline; tests do this instead of sleeping for a fixed time."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

Value = TypeVar("Value")


_PAUSE_S = 0.02
_SHARE = 0.05
"""The share of the time waited so far by which a pause delays the end at most."""


def wait_until(
    condition: Callable[[], Value],
    *,
    within_s: float = 30.0,
    what: str = "the condition",
    longest_pause_s: float = 0.1,
) -> Value:
    """Call a condition repeatedly until it returns a true value, and return this value.

    The pauses between calls grow: most conditions send a request, and to wait should cost less than the awaited work.

    Args:
        condition: the function to call.
        within_s: time limit in seconds.
        what: what the condition stands for, for the message of the error.
        longest_pause_s: the longest pause in seconds; the first pauses take a fiftieth of a second.

    Raises:
        AssertionError: the condition did not become true in time.
    """
    started = time.monotonic()
    while True:
        value = condition()
        if value:
            return value
        waited_s = time.monotonic() - started
        if waited_s > within_s:
            raise AssertionError(f"{what} did not come true within {within_s} s")
        time.sleep(max(_PAUSE_S, min(_SHARE * waited_s, longest_pause_s)))

"""Wait for a condition, with a deadline; tests do this instead of sleeping for a fixed time."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

Value = TypeVar("Value")


def wait_until(condition: Callable[[], Value], *, within_s: float = 60.0, what: str = "the condition") -> Value:
    """Call a condition repeatedly until it returns a true value, and return this value.

    Args:
        condition: the function to call.
        within_s: time limit in seconds.
        what: what the condition stands for, for the message of the error.

    Raises:
        AssertionError: the condition did not become true in time.
    """
    deadline = time.monotonic() + within_s
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"{what} did not come true within {within_s} s")
        time.sleep(0.02)

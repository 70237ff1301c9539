"""When a target is polled: at even distances, and sooner where one more look decides. Pure; the caller brings the time."""

from __future__ import annotations

from typing import Final

SOON: Final = 0.3
"""The part of the interval after which a first sign is looked at again."""


class Rhythm:
    """When the next poll is due.

    Args:
        interval_s: between two polls.
        now_s: when the first one is made; by a clock that only goes forward.
    """

    def __init__(self, interval_s: float, now_s: float) -> None:
        self._interval_s = interval_s
        self._due_s = now_s
        self._is_early = False

    def after(self, now_s: float, *, is_pressing: bool) -> float:
        """Return when the poll after one that has just ended is due.

        Args:
            now_s: the time.
            is_pressing: whether the same once more would be an incident. Then it is looked at again soon, but once in a
                row: what comes and goes is not to be polled three times as often.
        """
        self._is_early = is_pressing and not self._is_early
        # Late polls are left out: two at once would tell the same.
        self._due_s = max(self._due_s + self._interval_s * (SOON if self._is_early else 1.0), now_s)
        return self._due_s

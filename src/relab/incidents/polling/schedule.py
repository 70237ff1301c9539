"""Schedule polls: at regular intervals, and sooner if one more poll decides. Pure; the caller passes the time."""

from __future__ import annotations

from typing import Final

EARLY_SHARE: Final = 0.3
"""The share of the interval after which a poll follows a first sign of an incident."""


class PollSchedule:
    """When the next poll is due.

    Args:
        interval_s: between two polls.
        now_s: when the first one is due; by a monotonic clock.
    """

    def __init__(self, interval_s: float, now_s: float) -> None:
        self._interval_s = interval_s
        self._due_s = now_s
        self._is_early = False

    def after(self, now_s: float, *, is_pressing: bool) -> float:
        """Return when the poll after one that has just ended is due.

        Args:
            now_s: the current time.
            is_pressing: whether the same result once more would be an incident. The next poll is then early, but never twice
                in a row: a wavering signal must not triple the poll rate.
        """
        self._is_early = is_pressing and not self._is_early
        # Skip polls that are overdue: two at once would show the same.
        self._due_s = max(self._due_s + self._interval_s * (EARLY_SHARE if self._is_early else 1.0), now_s)
        return self._due_s

"""Schedule polls: at regular intervals, and early after the first sign of a problem, to confirm it soon. Pure."""

from __future__ import annotations

from typing import Final

EARLY_SHARE: Final = 0.3
"""After the first sign of an incident, the next poll follows after this share of the interval."""

_MIN_WINDOW_S: Final = 5
_MAX_WINDOW_INTERVAL_S: Final = 5.0
_POLLS_IN_WINDOW: Final = 4


def requested_window_s(interval_s: float) -> int:
    """Return the length, in seconds, of the window of the metrics that a poll requests from the target.

    `interval_s` is the time between two polls, in seconds.
    """
    return max(round(_POLLS_IN_WINDOW * min(interval_s, _MAX_WINDOW_INTERVAL_S)), _MIN_WINDOW_S)


class PollSchedule:
    """Computes when the next poll of a target is due.

    Args:
        interval_s: the time between two polls, in seconds.
        now_s: when the first poll is due, in seconds of a monotonic clock.
    """

    def __init__(self, interval_s: float, now_s: float) -> None:
        self._interval_s = interval_s
        self._due_s = now_s
        self._is_early = False

    def after(self, now_s: float, *, is_pressing: bool) -> float:
        """Return when the next poll is due, in seconds of the monotonic clock; call it when a poll has ended.

        Args:
            now_s: the current time, in seconds of the monotonic clock.
            is_pressing: whether the last poll has the first sign of a problem, which the next poll may confirm. The
                next poll is then early, unless the last one was.
        """
        # A signal that wavers must not triple the poll rate.
        self._is_early = is_pressing and not self._is_early
        # Skip polls that are overdue: two at once would show the same.
        self._due_s = max(self._due_s + self._interval_s * (EARLY_SHARE if self._is_early else 1.0), now_s)
        return self._due_s

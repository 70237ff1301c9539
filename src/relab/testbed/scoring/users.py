"""The users of an episode: a background load, and how well its requests were served in each second."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from relab.load.models import Window
from relab.load.service import LatencyHistogram
from relab.testbed.scenarios.background import BackgroundLoad
from relab.testbed.scoring.observations import ObservedSecond

TOO_SLOW_MS: Final = 400.0
"""Latency from which a user has waited too long: several times that of the slowest request on a healthy testbed."""
_TIMEOUT_S: Final = 3.0


class Users(BackgroundLoad):
    """A background load that reports how well the users are served.

    Args:
        url: of the target.
        rate_per_s: number of requests that are due per second.
        seed: of the choice of requests and their times.
        report: is called with each second, in order, after all of its requests have ended; times are `time.monotonic`'s.

    Raises:
        PlanError: the rate is invalid.
        UnreachableTargetError: the target does not accept connections.
    """

    def __init__(self, url: str, rate_per_s: float, *, seed: int, report: Callable[[ObservedSecond], None]) -> None:
        super().__init__(url, rate_per_s, seed=seed, timeout_s=_TIMEOUT_S, window_s=1.0, on_window=self._report_window)
        self._report = report

    def _report_window(self, window: Window) -> None:
        counts = window.counts
        # Requests in flight when the load is stopped have no outcome.
        offered = counts.offered - counts.abandoned
        unanswered = counts.failed + counts.timed_out + counts.dropped
        slow = LatencyHistogram.decode(window.good_latency.histogram).count_above_ms(TOO_SLOW_MS) if counts.good else 0
        self._report(
            ObservedSecond(
                at_s=self.began_s + window.start_s,
                until_s=self.began_s + window.end_s,
                offered=offered,
                refused=max(counts.bad - counts.failed - counts.timed_out, 0),
                unanswered=unanswered,
                slow=slow,
            )
        )

"""Send the users' requests in an episode (a test of a responder), and count per second how well they were served."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from relab.load.models import Window
from relab.load.service import LatencyHistogram
from relab.testbed.scenarios.background import BackgroundLoad
from relab.testbed.scoring.observations import ObservedSecond

TOO_SLOW_MS: Final = 400.0
"""Latency above which a request counts as slow: several times that of the slowest request on a healthy testbed."""
_TIMEOUT_S: Final = 3.0


class Users(BackgroundLoad):
    """A background load that reports, second by second, how well its requests are served.

    Use it as a context manager: the load runs until the block ends.

    Args:
        url: the address of the target.
        rate_per_s: number of requests that are due per second.
        seed: the seed of the random choice of requests and of their times.
        report: called with the counts of each second, in order, after all requests of the second have ended. The times
            in the counts are readings of `time.monotonic`.

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

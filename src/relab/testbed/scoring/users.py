"""The users of an episode: an open-loop load of requests, and how well they were served in each second."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from importlib import resources
from threading import Event
from types import TracebackType
from typing import Final, Self

from relab.load.models import LoadResult, Window
from relab.load.service import LatencyHistogram, check_target, make_plan, parse_mix, run_load
from relab.testbed.scoring.observations import Second

TOO_SLOW_MS: Final = 400.0
"""Latency from which a user has waited too long: several times that of the slowest request on a healthy testbed."""
_LONGEST_S: Final = 86_400.0
_TIMEOUT_S: Final = 3.0


class Users:
    """An open-loop load, from entering to leaving the block: users do not wait for an answer before the next request.

    Args:
        url: of the target.
        rate_per_s: number of requests that are due per second.
        seed: of the choice of requests and their times.
        tell: is called with each second, in order, after all of its requests have ended; times are `time.monotonic`'s.

    Raises:
        PlanError: the rate is invalid.
        UnreachableTargetError: the target does not accept connections.
    """

    def __init__(self, url: str, rate_per_s: float, *, seed: int, tell: Callable[[Second], None]) -> None:
        text = (resources.files("relab.testbed.scenarios") / "background.yaml").read_text(encoding="utf-8")
        self._plan = make_plan(
            url=url,
            mix=parse_mix(text, "the users' requests"),
            stages=[{"duration_s": _LONGEST_S, "rate_per_s": rate_per_s}],
            arrivals="poisson",
            seed=seed,
            timeout_s=_TIMEOUT_S,
            window_s=1.0,
            max_in_flight=max(100, round(rate_per_s * _TIMEOUT_S * 2)),
            keep_alive=False,  # new connections, so that users reach every worker
        )
        check_target(self._plan)
        self._tell = tell
        self._began_s = 0.0
        self._stop = Event()
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="users")
        self._running: Future[LoadResult] | None = None

    def __enter__(self) -> Self:
        self._began_s = time.monotonic()
        self._running = self._pool.submit(run_load, self._plan, self._on_window, self._stop)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._stop.set()
        self._pool.shutdown(wait=True)

    def raise_broken(self) -> None:
        """Raise the error of the load, if it has failed; otherwise return at once.

        Raises:
            RelabError: the load could not continue.
        """
        if self._running is not None and self._running.done():
            self._running.result()

    def _on_window(self, window: Window) -> None:
        counts = window.counts
        # Requests in flight when the load is stopped have no outcome.
        offered = counts.offered - counts.abandoned
        unanswered = counts.failed + counts.timed_out + counts.dropped
        slow = LatencyHistogram.decode(window.good_latency.histogram).count_above_ms(TOO_SLOW_MS) if counts.good else 0
        self._tell(
            Second(
                at_s=self._began_s + window.start_s,
                until_s=self._began_s + window.end_s,
                offered=offered,
                refused=max(counts.bad - counts.failed - counts.timed_out, 0),
                unanswered=unanswered,
                slow=slow,
            )
        )

"""Send a background load of requests to a testbed, as its users would, so that faults become noticeable."""

from __future__ import annotations

import time
from concurrent.futures import Future, ThreadPoolExecutor
from importlib import resources
from threading import Event
from types import TracebackType
from typing import Final, Self

from relab.load.models import LoadResult, OnWindow
from relab.load.service import check_target, make_plan, parse_mix, run_load

_MAX_DURATION_S: Final = 86_400.0
_MIN_IN_FLIGHT: Final = 100


class BackgroundLoad:
    """An open-loop load in its own thread: each request is sent when due, even if earlier ones have no answer yet.

    Use it as a context manager: the load runs while the block runs.

    Args:
        url: the address of the target.
        rate_per_s: number of requests that are due per second.
        seed: the seed of the random choice of requests and of their times.
        timeout_s: time limit for each request.
        window_s: length, in seconds, of the time windows; results are counted per window.
        on_window: called with the results of each window, in order, after all requests of the window have ended.

    Attributes:
        began_s: when the load began, by `time.monotonic`.

    Raises:
        PlanError: the rate is invalid.
        UnreachableTargetError: the target does not accept connections at the start of the load.
    """

    def __init__(
        self,
        url: str,
        rate_per_s: float,
        *,
        seed: int = 1,
        timeout_s: float = 5.0,
        window_s: float = 5.0,
        on_window: OnWindow | None = None,
    ) -> None:
        text = (resources.files("relab.testbed.scenarios") / "background.yaml").read_text(encoding="utf-8")
        self._plan = make_plan(
            url=url,
            mix=parse_mix(text, "the background load"),
            stages=[{"duration_s": _MAX_DURATION_S, "rate_per_s": rate_per_s}],
            arrivals="poisson",
            seed=seed,
            timeout_s=timeout_s,
            window_s=window_s,
            max_in_flight=max(_MIN_IN_FLIGHT, round(rate_per_s * timeout_s * 2)),
            keep_alive=False,  # with kept connections, all requests might reach the same worker
        )
        check_target(self._plan)
        self._on_window = on_window
        self._stop = Event()
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="users")
        self._running: Future[LoadResult] | None = None
        self.began_s = 0.0

    def __enter__(self) -> Self:
        self.began_s = time.monotonic()
        self._running = self._pool.submit(run_load, self._plan, self._on_window, self._stop)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._stop.set()
        self._pool.shutdown(wait=True)

    def raise_broken(self) -> None:
        """Raise the load's error if the load has failed; otherwise do nothing.

        Raises:
            RelabError: the load has failed.
        """
        if self._running is not None and self._running.done():
            self._running.result()

    def result(self) -> LoadResult:
        """Stop the load and return its result.

        Raises:
            RelabError: the load could not continue.
        """
        assert self._running is not None, "not entered"
        self._stop.set()
        return self._running.result()

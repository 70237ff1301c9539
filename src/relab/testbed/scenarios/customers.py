"""The background load during a scenario, so that faults affect requests."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from importlib import resources
from threading import Event
from types import TracebackType
from typing import Final, Self

from relab.load.models import LoadResult
from relab.load.service import check_target, make_plan, parse_mix, run_load

_AT_MOST_S: Final = 86_400.0
_TIMEOUT_S: Final = 5.0
_WINDOW_S: Final = 5.0


class Customers:
    """An open-loop load in its own thread, from entering to leaving the block.

    Args:
        url: of the target.
        rate_per_s: number of requests that are due per second.

    Raises:
        PlanError: the rate is invalid.
        UnreachableTargetError: the target does not accept connections.
    """

    def __init__(self, url: str, rate_per_s: float) -> None:
        text = (resources.files("relab.testbed.scenarios") / "background.yaml").read_text(encoding="utf-8")
        self._plan = make_plan(
            url=url,
            mix=parse_mix(text, "the background load"),
            stages=[{"duration_s": _AT_MOST_S, "rate_per_s": rate_per_s}],
            arrivals="poisson",
            timeout_s=_TIMEOUT_S,
            window_s=_WINDOW_S,
            max_in_flight=max(100, round(rate_per_s * _TIMEOUT_S * 2)),
            keep_alive=False,  # with kept connections, all requests might reach the same worker
        )
        check_target(self._plan)
        self._stop = Event()
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="customers")
        self._running: Future[LoadResult] | None = None

    def __enter__(self) -> Self:
        self._running = self._pool.submit(run_load, self._plan, stop=self._stop)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._stop.set()
        self._pool.shutdown(wait=True)

    def result(self) -> LoadResult:
        """Stop the load and return its result.

        Raises:
            RelabError: the load could not continue.
        """
        assert self._running is not None, "not entered"
        self._stop.set()
        return self._running.result()

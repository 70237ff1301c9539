"""The counters of one worker: requests by route and second, and events by name.

Seconds are numbered by the machine's monotonic clock, which is the same in all processes. Therefore the counters of
several workers can be added up by second, and changes of the wall clock have no effect.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

from relab.testbed.target.histogram import bucket_of

KEPT_BEYOND_WINDOW_S: Final = 5


@dataclass(slots=True)
class RouteCounts:
    """Counters of the requests to one route.

    Attributes:
        count: number of answered requests.
        errors_5xx, errors_4xx: number of answers with a status of this class.
        shed: number of requests that flow control rejected; `errors_5xx` includes them.
        total_ms: sum of the response times.
        histogram: number of requests by bucket of the response time.
    """

    count: int = 0
    errors_5xx: int = 0
    errors_4xx: int = 0
    shed: int = 0
    total_ms: float = 0.0
    histogram: dict[int, int] = field(default_factory=dict)

    def add(self, status: int, elapsed_ms: float, *, shed: bool) -> None:
        """Count one answered request to this route.

        Args:
            status: the HTTP status of the answer.
            elapsed_ms: the response time.
            shed: whether flow control rejected the request.
        """
        self.count += 1
        if status >= 500:
            self.errors_5xx += 1
        elif status >= 400:
            self.errors_4xx += 1
        self.shed += shed
        self.total_ms += elapsed_ms
        bucket = bucket_of(elapsed_ms)
        self.histogram[bucket] = self.histogram.get(bucket, 0) + 1

    def wire(self) -> list[Any]:
        """Return the counters of the route as a JSON array, for the statistics file; `read` is the inverse."""
        return [
            self.count,
            self.errors_5xx,
            self.errors_4xx,
            self.shed,
            round(self.total_ms, 3),
            list(self.histogram.items()),
        ]

    @classmethod
    def read(cls, wire: list[Any]) -> RouteCounts:
        """Return the counters from a JSON array that the method `wire` of a `RouteCounts` created."""
        count, errors_5xx, errors_4xx, shed, total_ms, histogram = wire
        return cls(count, errors_5xx, errors_4xx, shed, total_ms, dict(histogram))


@dataclass(slots=True)
class WorkerCounters:
    """The counters of a worker in one second, or the sums over several seconds or workers.

    Attributes:
        routes: counters of requests, by the name of the route.
        events: number of events other than requests, by name.
        waits: number of waits for a connection of the pool, by bucket of the waiting time.
    """

    routes: dict[str, RouteCounts] = field(default_factory=dict)
    events: dict[str, int] = field(default_factory=dict)
    waits: dict[int, int] = field(default_factory=dict)
    """Waits for a connection of the pool, as a histogram."""

    def wire(self) -> list[Any]:
        """Return the counters of the worker as a JSON array, for the statistics file; `read` is the inverse."""
        return [{name: counts.wire() for name, counts in self.routes.items()}, self.events, list(self.waits.items())]

    @classmethod
    def read(cls, wire: list[Any]) -> WorkerCounters:
        """Return the counters from a JSON array that the method `wire` of a `WorkerCounters` created."""
        routes, events, waits = wire
        return cls({name: RouteCounts.read(counts) for name, counts in routes.items()}, events, dict(waits))


class WorkerRecorder:
    """The counters of one worker: for each of the last seconds, and in total. Thread-safe.

    Args:
        window_s: length of the metrics window in seconds; the counters of a second are kept 5 s longer than this.
        clock: returns monotonic seconds.

    Attributes:
        totals: the sums of all counters since the start of the worker.
    """

    def __init__(self, *, window_s: int, clock: Callable[[], float]) -> None:
        self._kept_s = window_s + KEPT_BEYOND_WINDOW_S
        self._clock = clock
        self._lock = threading.Lock()
        self._seconds: dict[int, WorkerCounters] = {}
        self._closed: dict[int, str] = {}
        self.totals = WorkerCounters()

    def request(self, route: str, status: int, elapsed_ms: float, *, shed: bool = False) -> None:
        """Count one answered request to this worker.

        Args:
            route: the name of the request's route.
            status: the HTTP status of the answer.
            elapsed_ms: the response time.
            shed: whether flow control rejected the request.
        """
        with self._lock:
            for second in (self._current(), self.totals):
                if (counts := second.routes.get(route)) is None:
                    counts = second.routes[route] = RouteCounts()
                counts.add(status, elapsed_ms, shed=shed)

    def event(self, name: str, count: int = 1) -> None:
        """Add `count` to the number of events with this name, such as orders. The method `request` counts requests."""
        with self._lock:
            for second in (self._current(), self.totals):
                second.events[name] = second.events.get(name, 0) + count

    def wait(self, elapsed_ms: float) -> None:
        """Count a wait of `elapsed_ms` for a connection of the pool."""
        bucket = bucket_of(elapsed_ms)
        with self._lock:
            for second in (self._current(), self.totals):
                second.waits[bucket] = second.waits.get(bucket, 0) + 1

    def text(self) -> str:
        """Return all counters as JSON text: `{"seconds": {second: counters}, "totals": counters}`."""
        with self._lock:
            now = int(self._clock())
            # A second that is over does not change, so its text is computed only once.
            for moment in [moment for moment in self._seconds if moment < now]:
                self._closed[moment] = json.dumps(self._seconds.pop(moment).wire(), separators=(",", ":"))
            for moment in [moment for moment in self._closed if moment <= now - self._kept_s]:
                del self._closed[moment]
            parts = [f'"{moment}":{text}' for moment, text in self._closed.items()]
            parts += [
                f'"{moment}":{json.dumps(second.wire(), separators=(",", ":"))}'
                for moment, second in self._seconds.items()
            ]
            totals = json.dumps(self.totals.wire(), separators=(",", ":"))
        return f'{{"seconds":{{{",".join(parts)}}},"totals":{totals}}}'

    def _current(self) -> WorkerCounters:
        now = int(self._clock())
        if (second := self._seconds.get(now)) is None:
            second = self._seconds[now] = WorkerCounters()
            if text := self._closed.pop(now, None):
                self._seconds[now] = second = WorkerCounters.read(json.loads(text))
        return second

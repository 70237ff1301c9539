"""Limit the active requests of one worker. No I/O; the caller passes the time.

At the end of each measuring period, the limiter compares the P95 of the processing times with a threshold. If the P95
is above the threshold, the limit falls by a constant factor. Otherwise the limit rises by one, but only if it was
reached in this period. Such an additive increase with multiplicative decrease converges to a fair and efficient share
(Chiu and Jain 1989). The threshold is lower than the target P95 of the flags: the target is for the latency of clients,
which also includes the wait in the queue and the time in the network.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Final

from relab.flags.models import ControlFlags

INCREASE: Final = 1.0
DECREASE: Final = 0.7
PERIOD_S: Final = 0.25
SAMPLES: Final = 20
"""A period ends after `PERIOD_S` seconds and this many samples, or after `LONG_PERIODS` times `PERIOD_S` with one."""
LONG_PERIODS: Final = 4
AIM: Final = 0.9
"""Share of the target P95 to aim at, because a limit that probes upwards exceeds its aim now and then."""
WAIT_SHARE: Final = 0.25
"""Share of the target P95 that a request may wait before it is rejected."""
MAX_WAIT_MS: Final = 1_000.0
MEAN_WEIGHT: Final = 0.1
"""Weight of the newest request in the moving average of the service time."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """The bounds for one worker that follow from the flags: for its active requests, and for the wait in its queue.

    Attributes:
        adaptive: whether the limit of active requests adapts to the measured processing times.
        highest: the upper bound of an adaptive limit, or the value of a fixed limit; None for no limit.
        wait_ms: longest time that a request may wait in the queue, in milliseconds.
        work_p95_ms: threshold for the P95 of the processing times, in milliseconds. If the P95 is above it, an
            adaptive limit falls. Processing times do not include the wait in the queue.
    """

    adaptive: bool
    highest: int | None
    wait_ms: float
    work_p95_ms: float

    @classmethod
    def of(cls, flags: ControlFlags, *, workers: int) -> Bounds:
        """Return the bounds for each worker of a target with `workers` workers.

        The flags limit the active requests of the whole target. Each worker gets an equal share, rounded up.
        """
        limited = "concurrency" in flags.enabled_actuators
        wait_ms = min(flags.target_p95_ms * WAIT_SHARE, MAX_WAIT_MS)
        return cls(
            adaptive=limited and flags.policy == "aimd",
            highest=max(math.ceil(flags.max_concurrency / workers), 1) if limited else None,
            wait_ms=wait_ms,
            work_p95_ms=flags.target_p95_ms * AIM - wait_ms,
        )


class Limiter:
    """Limits the number of active requests of a worker, and adapts the limit to the measured processing times.

    Args:
        bounds: the bounds from the flags; an adaptive limit begins at its upper bound.
        now_s: the current time of a monotonic clock, in seconds. All calls of the methods must use the same clock.
    """

    def __init__(self, bounds: Bounds, *, now_s: float) -> None:
        self._bounds = bounds
        self._limit = float(bounds.highest or 0)
        self._active = 0
        self._earlier = 0
        self._mean_ms: float | None = None
        self._begin(now_s)
        self._last_p95_ms: float | None = None

    @property
    def bounds(self) -> Bounds:
        """The bounds from the flags: how many requests may be active, and how long a request may wait in the queue."""
        return self._bounds

    @property
    def limit(self) -> int | None:
        """The maximum number of active requests; None for no limit."""
        return None if self._bounds.highest is None else int(self._limit)

    @property
    def active(self) -> int:
        """The number of active requests."""
        return self._active

    def is_too_late(self, waiting: int) -> bool:
        """Return whether a new request behind `waiting` queued requests would wait longer than allowed.

        The expected wait follows from Little's law.
        """
        limit = self.limit
        if limit is None or self._active < limit or self._mean_ms is None:
            return False
        # Little's law: requests end at a rate of (number of active requests) / (mean time of a request).
        return (waiting + 1) * self._mean_ms / limit > self._bounds.wait_ms

    def change(self, bounds: Bounds, *, now_s: float) -> None:
        """Replace the bounds, and begin a new measuring period. The caller does this when the flags have changed.

        If the old and the new bounds are both adaptive and have the same upper bound, the current limit stays.
        Otherwise the limit becomes the new upper bound.

        Args:
            bounds: the new bounds.
            now_s: the current time of the monotonic clock, in seconds.
        """
        stays = bounds.adaptive and self._bounds.adaptive and bounds.highest == self._bounds.highest
        self._bounds = bounds
        if bounds.highest is not None and not stays:
            self._limit = float(bounds.highest)
        self._begin(now_s)

    def start(self) -> bool:
        """Count a new active request if the limit allows it; return whether the request was counted.

        If this returns True, the caller must call `finish` when the request has ended.
        """
        if self._bounds.highest is not None and self._active >= int(self._limit):
            self._full = True
            return False
        self._active += 1
        if self._bounds.highest is not None and self._active >= int(self._limit):
            self._full = True
        return True

    def finish(self, elapsed_ms: float, *, now_s: float) -> None:
        """Record the end of a request, failed or not; at the end of a measuring period, adapt the limit.

        Args:
            elapsed_ms: the processing time of the request, without its wait in the queue.
            now_s: the current time of the monotonic clock, in seconds.
        """
        assert self._active > 0, "more requests finished than began"
        self._active -= 1
        mean_ms = elapsed_ms if self._mean_ms is None else self._mean_ms
        self._mean_ms = mean_ms + MEAN_WEIGHT * (elapsed_ms - mean_ms)
        if self._earlier > 0:
            # The request began before the last decrease; it must not cause a second one.
            self._earlier -= 1
            return
        self._samples.append(elapsed_ms)
        age_s = now_s - self._began_s
        if (len(self._samples) >= SAMPLES and age_s >= PERIOD_S) or age_s >= PERIOD_S * LONG_PERIODS:
            self._move()
            self._begin(now_s)

    def figures(self) -> dict[str, Any]:
        """Return the state of the limiter as JSON, for operators.

        - `policy`: `aimd` (adaptive), `fixed`, or `none` without a limit.
        - `limit`, `highest`: the current limit and its upper bound; None without a limit.
        - `active`: number of active requests.
        - `work_p95_ms`: 95th percentile of the processing times (without the wait in the queue) in the last measuring
          period, in milliseconds; None before the end of the first period.
        - `work_p95_bound_ms`: the value of `work_p95_ms` above which the limit falls.
        """
        return {
            "policy": "aimd" if self._bounds.adaptive else "fixed" if self._bounds.highest is not None else "none",
            "limit": self.limit,
            "highest": self._bounds.highest,
            "active": self._active,
            "work_p95_ms": None if self._last_p95_ms is None else round(self._last_p95_ms, 3),
            "work_p95_bound_ms": round(self._bounds.work_p95_ms, 3),
        }

    def _begin(self, now_s: float) -> None:
        self._began_s = now_s
        self._samples: list[float] = []
        self._full = False

    def _move(self) -> None:
        ordered = sorted(self._samples)
        self._last_p95_ms = ordered[math.ceil(0.95 * len(ordered)) - 1]
        if not self._bounds.adaptive or self._bounds.highest is None:
            return
        if self._last_p95_ms > self._bounds.work_p95_ms:
            self._limit = max(self._limit * DECREASE, 1.0)
            self._earlier = self._active
        elif self._full:
            self._limit = min(self._limit + INCREASE, float(self._bounds.highest))

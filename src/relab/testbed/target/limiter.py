"""The concurrency limit of one worker: additive increase, multiplicative decrease. Pure; the caller brings the time.

The limit rises by one a period while the P95 of the period is within its bound and the limit was in use, and falls
by a constant factor when the P95 is above it (Chiu and Jain 1989: only this pair converges to a fair and efficient
share). A part of the target is left for waiting, and a smaller one for what nobody here can measure (the way there
and back), so that what clients see keeps it.
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
"""A period is over when both are reached, or after `LONG_PERIODS` of them with any sample at all."""
LONG_PERIODS: Final = 4
AIM: Final = 0.9
"""Which part of the target P95 is aimed at: a limit that probes is above its aim now and then."""
WAIT_SHARE: Final = 0.25
"""Which part of the target P95 a request may wait before it is turned away."""
LONGEST_WAIT_MS: Final = 1_000.0
MEAN_WEIGHT: Final = 0.1
"""Of the newest request in the mean time of work."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """What the flags ask of one worker.

    Attributes:
        adaptive: whether the limit moves.
        highest: the limit's upper bound, and the limit where it does not move; None for no limit.
        wait_ms: how long a request may wait for its turn.
        work_p95_ms: the P95 of the time after waiting, above which the limit falls.
    """

    adaptive: bool
    highest: int | None
    wait_ms: float
    work_p95_ms: float

    @classmethod
    def of(cls, flags: ControlFlags, *, workers: int) -> Bounds:
        """Return a worker's share of the flags."""
        limited = "concurrency" in flags.enabled_actuators
        wait_ms = min(flags.target_p95_ms * WAIT_SHARE, LONGEST_WAIT_MS)
        return cls(
            adaptive=limited and flags.policy == "aimd",
            highest=max(math.ceil(flags.max_concurrency / workers), 1) if limited else None,
            wait_ms=wait_ms,
            work_p95_ms=flags.target_p95_ms * AIM - wait_ms,
        )


class Limiter:
    """The state: how many requests are at work, how many may be, and the samples of the running period."""

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
        """What the limit moves within."""
        return self._bounds

    @property
    def limit(self) -> int | None:
        """How many requests may be at work; None for any number."""
        return None if self._bounds.highest is None else int(self._limit)

    @property
    def active(self) -> int:
        """How many requests are at work."""
        return self._active

    def is_too_late(self, waiting: int) -> bool:
        """Return whether a request that comes after so many who wait would wait in vain, as work goes now.

        By Little's law as many end in the mean time of work as are at work.
        """
        limit = self.limit
        if limit is None or self._active < limit or self._mean_ms is None:
            return False
        return (waiting + 1) * self._mean_ms / limit > self._bounds.wait_ms

    def change(self, bounds: Bounds, *, now_s: float) -> None:
        """Take new bounds; a limit that moves keeps its place, unless it may move elsewhere now: then it starts anew."""
        stays = bounds.adaptive and self._bounds.adaptive and bounds.highest == self._bounds.highest
        self._bounds = bounds
        if bounds.highest is not None and not stays:
            self._limit = float(bounds.highest)
        self._begin(now_s)

    def start(self) -> bool:
        """Let one request begin, if the limit allows; whoever gets True must call `finish`."""
        if self._bounds.highest is not None and self._active >= int(self._limit):
            self._full = True
            return False
        self._active += 1
        if self._bounds.highest is not None and self._active >= int(self._limit):
            self._full = True
        return True

    def finish(self, elapsed_ms: float, *, now_s: float) -> None:
        """Count a request that is done, failed or not, and move the limit when the period is over."""
        assert self._active > 0, "more requests finished than began"
        self._active -= 1
        mean_ms = elapsed_ms if self._mean_ms is None else self._mean_ms
        self._mean_ms = mean_ms + MEAN_WEIGHT * (elapsed_ms - mean_ms)
        if self._earlier > 0:
            # It began under a limit that has been found too high since; it must not be found so twice.
            self._earlier -= 1
            return
        self._samples.append(elapsed_ms)
        age_s = now_s - self._began_s
        if (len(self._samples) >= SAMPLES and age_s >= PERIOD_S) or age_s >= PERIOD_S * LONG_PERIODS:
            self._move()
            self._begin(now_s)

    def figures(self) -> dict[str, Any]:
        """Return what an operator sees."""
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

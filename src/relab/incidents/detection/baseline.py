"""The baseline of a target: the usual values of its signals, learnt from polls without anomalies."""

from __future__ import annotations

import math
import statistics
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from relab.incidents.models import Snapshot

MIN_POLLS: Final = 5
MAX_POLLS: Final = 240
MAX_SIGNALS: Final = 2_000
"""The maximum number of signals in a baseline. When there are more, those that were last seen longest ago are dropped.

A target may give its routes new names in every poll.
"""
_TO_SIGMA: Final = 1.4826
"""Factor from the median absolute deviation of a normal distribution to its standard deviation."""
_Z_90: Final = 1.2816
"""The 90th percentile of the standard normal distribution."""


@dataclass(frozen=True, slots=True)
class SignalBaseline:
    """The usual values of one signal in polls without anomalies.

    Attributes:
        median: the median of the values.
        deviation: the robust standard deviation, from the median absolute deviation.
        count: the number of polls.
        upper_deviation: the standard deviation estimated from high values: (90th percentile - median) / 1.2816.
    """

    median: float
    deviation: float
    count: int
    upper_deviation: float = 0.0

    def upper_bound(self, deviations: float, min_increase: float, min_factor: float = 1.0) -> float:
        """Return the bound above which a value of the signal is unusual, in the unit of the signal.

        The bound is the highest of three values: the median plus `deviations` robust standard deviations, the median
        plus `min_increase`, and the median times `min_factor`.

        Args:
            deviations: a number of robust standard deviations.
            min_increase: the least increase that users notice, in the unit of the signal.
            min_factor: the least increase that users notice, as a multiple of the median.
        """
        return max(self.median + deviations * self.deviation, self.median * min_factor, self.median + min_increase)


class Baseline:
    """The usual values of each signal (a measured number), learnt from polls without anomalies.

    Only the latest `MAX_POLLS` values of each signal are kept.
    """

    def __init__(self) -> None:
        self._values: dict[str, deque[float]] = {}
        self._polls = 0

    @property
    def polls(self) -> int:
        """The number of polls that the baseline has learnt from; `take` counts only polls whose values it loads."""
        return self._polls

    @property
    def is_learnt(self) -> bool:
        """Whether the baseline has learnt from at least `MIN_POLLS` polls."""
        return self._polls >= MIN_POLLS

    def learn(self, snapshot: Snapshot) -> None:
        """Add the numbers of `snapshot`, a poll without anomalies, to the usual values."""
        self._polls += 1
        for name, value in snapshot.numbers.items():
            # Remove and insert again, so that the dict is in the order in which signals were last seen.
            values = self._values.pop(name, None) or deque(maxlen=MAX_POLLS)
            values.append(value)
            self._values[name] = values
        for name in list(self._values)[: max(len(self._values) - MAX_SIGNALS, 0)]:
            del self._values[name]

    def usual(self, signal: str) -> SignalBaseline | None:
        """Return the usual values of a signal (a measured number); None if it was in fewer than `MIN_POLLS` polls."""
        values = self._values.get(signal)
        if values is None or len(values) < MIN_POLLS:
            return None
        median = statistics.median(values)
        spread = statistics.median(abs(value - median) for value in values)
        tail = sorted(values)[math.ceil(0.9 * len(values)) - 1]
        return SignalBaseline(median, spread * _TO_SIGMA, len(values), max(tail - median, 0.0) / _Z_90)

    def dump(self) -> dict[str, list[float]]:
        """Return the values of each signal (a measured number) by name, oldest first, to be stored for a restart."""
        return {name: list(values) for name, values in self._values.items()}

    def take(self, content: Mapping[str, Iterable[float]]) -> None:
        """Replace all learnt values with `content`, the result of an earlier call of `dump`."""
        self._values = {name: deque(values, maxlen=MAX_POLLS) for name, values in content.items()}
        self._polls = max((len(values) for values in self._values.values()), default=0)

"""What is usual for a target: learnt from polls in which nothing was wrong."""

from __future__ import annotations

import math
import statistics
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from relab.incidents.models import Snapshot

LEAST_POLLS: Final = 5
MOST_POLLS: Final = 240
MOST_SIGNALS: Final = 2_000
"""A target that names its routes anew in every poll must not fill the memory; what was not seen for longest goes first."""
_TO_SIGMA: Final = 1.4826
"""The median absolute deviation of a normal distribution times this is its standard deviation."""
_Z_90: Final = 1.2816
"""The 90th percentile of the standard normal distribution."""


@dataclass(frozen=True, slots=True)
class Usual:
    """A signal while all is well.

    Attributes:
        median: of its values.
        deviation: the robust standard deviation, from the median absolute deviation.
        count: polls that it rests on.
        upper_deviation: the standard deviation that its upper tail tells: (90th percentile - median) / 1.2816. A noisy host
            shows in the tail, and not in the median absolute deviation, which half of all polls may leave unmoved.
    """

    median: float
    deviation: float
    count: int
    upper_deviation: float = 0.0


class Baseline:
    """A sliding window of good polls.

    Args:
        most: how many polls it holds.
    """

    def __init__(self, most: int = MOST_POLLS) -> None:
        self._values: dict[str, deque[float]] = {}
        self._most = most
        self._polls = 0

    @property
    def polls(self) -> int:
        """How many good polls were learnt from."""
        return self._polls

    @property
    def is_learnt(self) -> bool:
        """Whether it rests on enough."""
        return self._polls >= LEAST_POLLS

    def learn(self, snapshot: Snapshot) -> None:
        """Take in a poll in which nothing was wrong."""
        self._polls += 1
        for name, value in snapshot.numbers.items():
            # Put in anew, so that they stand in the order in which they were seen last.
            values = self._values.pop(name, None) or deque(maxlen=self._most)
            values.append(value)
            self._values[name] = values
        for name in list(self._values)[: max(len(self._values) - MOST_SIGNALS, 0)]:
            del self._values[name]

    def usual(self, signal: str) -> Usual | None:
        """Return what is usual for a signal; None if it was not seen often enough to say."""
        values = self._values.get(signal)
        if values is None or len(values) < LEAST_POLLS:
            return None
        median = statistics.median(values)
        spread = statistics.median(abs(value - median) for value in values)
        tail = sorted(values)[math.ceil(0.9 * len(values)) - 1]
        return Usual(median, spread * _TO_SIGMA, len(values), max(tail - median, 0.0) / _Z_90)

    def dump(self) -> dict[str, list[float]]:
        """Return its content as JSON holds it, for a responder that starts again."""
        return {name: list(values) for name, values in self._values.items()}

    def take(self, content: Mapping[str, Iterable[float]]) -> None:
        """Take in a `dump`, in the place of what was learnt."""
        self._values = {name: deque(values, maxlen=self._most) for name, values in content.items()}
        self._polls = max((len(values) for values in self._values.values()), default=0)

    @classmethod
    def load(cls, content: Mapping[str, Iterable[float]], most: int = MOST_POLLS) -> Baseline:
        """Return the baseline of a `dump`."""
        made = cls(most)
        made.take(content)
        return made

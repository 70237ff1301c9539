"""Find patterns that repeat within a sequence, in linear time."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass

MIN_PERIOD = 2
MAX_PERIOD = 4


@dataclass(frozen=True, slots=True)
class Cycle:
    """The part `start:end` of a sequence in which a pattern of `period` items repeats."""

    start: int
    end: int
    period: int

    @property
    def repeats(self) -> int:
        """The number of complete occurrences of the pattern."""
        return (self.end - self.start) // self.period


def find_cycles(tokens: Sequence[Hashable | None], *, min_repeats: int) -> Iterator[Cycle]:
    """Yield the parts of a sequence in which a pattern of 2 to 4 items occurs at least `min_repeats` times in a row.

    Each part is as long as possible. A pattern has at least two different items. None in `tokens` is not equal to any
    item, not even to None. Of two parts that overlap, only the one with the shorter pattern is yielded. If both
    patterns have the same length, only the earlier part is yielded.
    """
    # One pass per period is enough: m + period items repeat with that period exactly if
    # `tokens[i] == tokens[i - period]` holds for m consecutive `i`.
    taken = bytearray(len(tokens))
    for period in range(MIN_PERIOD, MAX_PERIOD + 1):
        matched = 0
        for index in range(period, len(tokens) + 1):
            if index < len(tokens) and tokens[index] is not None and tokens[index] == tokens[index - period]:
                matched += 1
                continue
            start = index - matched - period
            if matched + period >= min_repeats * period and matched:
                pattern = tokens[start : start + period]
                if len(set(pattern)) > 1 and not any(taken[start:index]):
                    taken[start:index] = b"\x01" * (index - start)
                    yield Cycle(start, index, period)
            matched = 0

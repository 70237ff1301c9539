"""Compute histograms of durations with exponential buckets. Histograms of several seconds or workers can be added.

Bucket `i` counts the values in (g^(i-1), g^i] ms with g = 1.02. The geometric mean of these two bounds stands for every
value in the bucket, with an error of at most 1 %.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Final

GROWTH: Final = 1.02
MIN_MS: Final = 0.01
"""Durations below this value count as this value."""

_LOG_GROWTH = math.log(GROWTH)
_MIDDLE = math.sqrt(GROWTH)


def bucket_of(ms: float) -> int:
    """Return the index of the histogram bucket to which a duration in milliseconds belongs."""
    return math.ceil(math.log(max(MIN_MS, ms)) / _LOG_GROWTH - 1e-9)


def upper_ms(bucket: int) -> float:
    """Return the upper bound, in milliseconds, of the histogram bucket with the index `bucket`."""
    return GROWTH**bucket


def quantile_ms(counts: Mapping[int, int], q: float) -> float | None:
    """Return the nearest-rank quantile `q` (0 to 1) in milliseconds; None without values. The error is at most 1 %.

    Args:
        counts: the number of values by bucket.
        q: the quantile, such as 0.95.
    """
    total = sum(counts.values())
    if total <= 0:
        return None
    rank = max(math.ceil(q * total), 1)
    for bucket in sorted(counts):
        rank -= counts[bucket]
        if rank <= 0:
            return upper_ms(bucket) / _MIDDLE
    raise AssertionError("the counts of a histogram are never negative")


def add(into: dict[int, int], counts: Mapping[int, int]) -> None:
    """Add the histogram `counts` (count by bucket) to the histogram `into`; the function changes `into`."""
    for bucket, count in counts.items():
        into[bucket] = into.get(bucket, 0) + count


def cumulative(counts: Mapping[int, int], bounds_ms: Iterable[float]) -> list[tuple[float, int]]:
    """Return `[(bound, number of values that are at most this bound)]` for a histogram.

    Each value in a bucket counts as the geometric mean of the bucket's two bounds.

    Args:
        counts: the histogram: the number of values by bucket.
        bounds_ms: the bounds for which to count, in milliseconds and in ascending order.
    """
    ordered = sorted(counts.items())
    found: list[tuple[float, int]] = []
    index = total = 0
    for bound in bounds_ms:
        while index < len(ordered) and upper_ms(ordered[index][0]) / _MIDDLE <= bound:
            total += ordered[index][1]
            index += 1
        found.append((bound, total))
    return found

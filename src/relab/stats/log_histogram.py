"""Estimate quantiles, with a relative error of at most 1 %, from a histogram whose buckets grow by a constant factor.

Bucket `i` holds the values in (g^(i-1), g^i] with g = (1 + a) / (1 - a) and a = 0.01. Its representative value
2 g^i / (g + 1) has a relative error of at most `a` for every value in it (DDSketch, Masson et al., VLDB 2019).
Values up to 1e-6 count as 0. Counts are plain integers by bucket, so histograms can be added and subtracted.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Final

RELATIVE_ERROR: Final = 0.01
MIN_VALUE: Final = 1e-6
"""Values up to this limit count as zero; for latencies in ms it is a nanosecond."""
ZERO_BUCKET: Final = -1_000_000

_GAMMA = (1 + RELATIVE_ERROR) / (1 - RELATIVE_ERROR)
_LOG_GAMMA = math.log(_GAMMA)


def bucket_of(value: float) -> int:
    """Return the number of the logarithmic bucket that holds a non-negative value; values up to 1e-6 share a bucket."""
    return math.ceil(math.log(value) / _LOG_GAMMA) if value > MIN_VALUE else ZERO_BUCKET


def value_of(bucket: int) -> float:
    """Return the value that represents a bucket: it differs from each value in the bucket by at most 1 %.

    The bucket of the values up to 1e-6 is represented by 0.
    """
    return 0.0 if bucket == ZERO_BUCKET else 2 * _GAMMA**bucket / (_GAMMA + 1)


def quantile(counts: Mapping[int, int], q: float) -> float | None:
    """Return the nearest-rank quantile `q` (0..1) with a relative error of at most 1 %, or None without values.

    A quantile up to 1e-6 is returned as 0. `counts` is a histogram: `{bucket number: number of values}`.
    """
    total = sum(counts.values())
    if total <= 0:
        return None
    rank = max(math.ceil(q * total), 1)
    for bucket in sorted(counts):
        rank -= counts[bucket]
        if rank <= 0:
            return value_of(bucket)
    raise AssertionError("the counts of a histogram are never negative")

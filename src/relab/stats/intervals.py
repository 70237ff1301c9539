"""Confidence intervals of a rate, of a count and of a mean."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

from relab.stats.distributions import beta_quantile, gamma_quantile, t_quantile

LEVEL = 0.95
EQUAL = 1e-9
"""Values that differ by at most this share of the largest value count as equal; the difference is rounding."""
_MAX_MAGNITUDE = sys.float_info.max / 4


@dataclass(frozen=True, slots=True)
class Interval:
    """A confidence interval of a quantity.

    Attributes:
        low, high: the ends, in the unit of the quantity; infinite where it is not bounded.
        level: confidence level, the share of such intervals that contain the true value, 0..1.
        method: name of the method, as shown to a reader.
    """

    low: float
    high: float
    level: float
    method: str


def wilson(hits: int, total: int, *, level: float = LEVEL) -> Interval:
    """Return Wilson's score interval of the rate of `hits` in `total` independent trials.

    Its coverage is close to the level for any rate, even with few trials.

    Source: E. B. Wilson, J. Am. Statist. Assoc. 22 (1927) 209-212.

    Raises:
        ValueError: there are no trials, more hits than trials, or the level is not between 0 and 1.
    """
    _check_counts(hits, total)
    check_level(level)
    z = NormalDist().inv_cdf((1 + level) / 2)
    rate, share = hits / total, z * z / total
    middle = (rate + share / 2) / (1 + share)
    half = z / (1 + share) * math.sqrt(rate * (1 - rate) / total + share / (4 * total))
    # With no hits or only hits the formula gives 0 or 1 except for rounding.
    low = 0.0 if hits == 0 else max(0.0, middle - half)
    high = 1.0 if hits == total else min(1.0, middle + half)
    return Interval(low, high, level, "Wilson")


def clopper_pearson(hits: int, total: int, *, level: float = LEVEL) -> Interval:
    """Return the exact Clopper-Pearson interval of the rate of `hits` in `total` independent trials.

    Its coverage is at least the level, so it is wider than Wilson's.

    Source: C. J. Clopper, E. S. Pearson, Biometrika 26 (1934) 404-413.

    Raises:
        ValueError: there are no trials, more hits than trials, or the level is not between 0 and 1.
    """
    _check_counts(hits, total)
    check_level(level)
    tail = (1 - level) / 2
    low = 0.0 if hits == 0 else beta_quantile(tail, hits, total - hits + 1)
    high = 1.0 if hits == total else beta_quantile(1 - tail, hits + 1, total - hits)
    return Interval(low, high, level, "Clopper-Pearson")


def poisson_exact(count: int, *, level: float = LEVEL) -> Interval:
    """Return the exact interval of the mean of a Poisson variable whose observed value is `count`.

    Source: F. Garwood, Biometrika 28 (1936) 437-442.

    Raises:
        ValueError: the count is negative, or the level is not between 0 and 1.
    """
    if count < 0:
        raise ValueError(f"{count} events")
    check_level(level)
    tail = (1 - level) / 2
    low = 0.0 if count == 0 else gamma_quantile(tail, count)
    return Interval(low, gamma_quantile(1 - tail, count + 1), level, "Garwood")


def mean_interval(values: Sequence[float], *, level: float = LEVEL) -> Interval:
    """Return Student's interval of the mean of independent values, on n - 1 degrees of freedom.

    If all values are equal, their variance is unknown, and the interval is infinite.

    Raises:
        ValueError: there are fewer than two values, one is not finite, they are too large to be summed, or the
            level is not between 0 and 1.
    """
    check_level(level)
    if len(values) < 2:
        raise ValueError(f"an interval of a mean needs two values at least, not {len(values)}")
    if not all(map(math.isfinite, values)):
        raise ValueError("a value is not finite")
    import numpy as np

    data = np.asarray(values, dtype=float)
    largest = float(abs(data).max())
    if largest > _MAX_MAGNITUDE / data.size:
        raise ValueError("the values are too large to be summed")
    # Scaled by the largest value, so that squares neither overflow nor underflow.
    scaled = data / (largest or 1.0)
    if float(np.ptp(scaled)) <= EQUAL:
        return Interval(-math.inf, math.inf, level, "none: the values do not vary")
    middle = float(scaled.mean()) * largest
    error = float(scaled.std(ddof=1)) / math.sqrt(data.size) * largest
    half = t_quantile((1 + level) / 2, data.size - 1) * error
    return Interval(middle - half, middle + half, level, "Student t")


def check_level(level: float) -> None:
    """Check that a confidence level lies between 0 and 1; a typical mistake is 95 for 0.95.

    Raises:
        ValueError: the level does not lie between 0 and 1.
    """
    if not 0 < level < 1:
        raise ValueError(f"a level lies between 0 and 1, not at {level}")


def _check_counts(hits: int, total: int) -> None:
    if total < 1 or not 0 <= hits <= total:
        raise ValueError(f"a rate needs a trial at least and hits between 0 and their number: {hits} of {total}")

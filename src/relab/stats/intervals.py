"""Confidence intervals of a rate and of a count."""

from __future__ import annotations

import math
from dataclasses import dataclass

from relab.stats.distributions import beta_quantile, gamma_quantile

LEVEL = 0.95


@dataclass(frozen=True, slots=True)
class Interval:
    """A confidence interval of a quantity.

    Attributes:
        low, high: the ends, in the unit of the quantity; an end is infinite if the interval has no bound there.
        level: confidence level, the share of such intervals that contain the true value, 0..1.
        method: name of the method, for people; `none: REASON` if no method could be used.
    """

    low: float
    high: float
    level: float
    method: str

    @property
    def ends_text(self) -> str:
        """The ends as text, such as `-0.1 to +0.3`; the result of `unbounded_text` if both are infinite."""
        if math.isinf(self.low) and math.isinf(self.high):
            return unbounded_text(self.method)
        return f"{self.low:+.4g} to {self.high:+.4g}"


def unbounded_text(method: str | None) -> str:
    """Return the text for an interval whose two ends are infinite.

    The text is `unbounded: REASON` if `method` has the form `none: REASON` (no method could be used), otherwise
    `unbounded`. `method` is `Interval.method`, or None if it is not known.
    """
    reason = (method or "").partition("none: ")[2]
    return f"unbounded: {reason}" if reason else "unbounded"


def wilson(hits: int, total: int, *, level: float = LEVEL) -> Interval:
    """Return Wilson's score interval of the rate of `hits` in `total` independent trials.

    The coverage of the interval is close to the level for any rate, even with few trials.

    Source: E. B. Wilson, J. Am. Statist. Assoc. 22 (1927) 209-212.

    Raises:
        ValueError: there are no trials, more hits than trials, or the level is not between 0 and 1.
    """
    from statistics import NormalDist

    _check_counts(hits, total)
    check_level(level)
    low, high = score_ends(hits / total, total, NormalDist().inv_cdf((1 + level) / 2))
    # With no hits or only hits the formula gives 0 or 1 except for rounding.
    return Interval(0.0 if hits == 0 else low, 1.0 if hits == total else high, level, "Wilson")


def score_ends(rate: float, count: float, quantile: float) -> tuple[float, float]:
    """Return the ends of Wilson's score interval of a rate in `count` trials; `count` need not be a whole number.

    `quantile` is the number of standard errors between the true rate and an end, such as 1.96.
    """
    share = quantile * quantile / count
    middle = (rate + share / 2) / (1 + share)
    half = quantile / (1 + share) * math.sqrt(rate * (1 - rate) / count + share / (4 * count))
    return max(0.0, middle - half), min(1.0, middle + half)


def clopper_pearson(hits: int, total: int, *, level: float = LEVEL) -> Interval:
    """Return the exact Clopper-Pearson interval of the rate of `hits` in `total` independent trials.

    The coverage of the interval is at least the level, so the interval is wider than Wilson's.

    Source: C. J. Clopper, E. S. Pearson, Biometrika 26 (1934) 404-413.

    Raises:
        ValueError: there are no trials, more hits than trials, or the level is not between 0 and 1.
    """
    _check_counts(hits, total)
    check_level(level)
    return Interval(*exact_ends(hits, total, level), level, "Clopper-Pearson")


def exact_ends(hits: float, total: float, level: float) -> tuple[float, float]:
    """Return the ends of the Clopper-Pearson interval of a rate; `hits` and `total` need not be whole numbers."""
    tail = (1 - level) / 2
    low = 0.0 if hits <= 0 else beta_quantile(tail, hits, total - hits + 1)
    high = 1.0 if hits >= total else beta_quantile(1 - tail, hits + 1, total - hits)
    return low, high


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


def check_level(level: float) -> None:
    """Check that a confidence level lies between 0 and 1; a typical mistake is 95 for 0.95.

    Raises:
        ValueError: the level does not lie between 0 and 1.
    """
    if not 0 < level < 1:
        raise ValueError(f"a level lies between 0 and 1, not at {level}")


def _check_counts(hits: int, total: int) -> None:
    if total < 1 or not 0 <= hits <= total:
        raise ValueError(f"a rate needs at least one trial, and hits between 0 and their number: {hits} of {total}")

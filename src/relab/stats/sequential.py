"""Always-valid inference about a mean: evidence, intervals and p-values that may be computed after each new value.

An ordinary confidence interval keeps its level only if the number of values was chosen beforehand. If the data decide
when to stop, such an interval misses the true mean more often. A confidence sequence has an interval for each number of
values. With the probability of its level, all these intervals contain the true mean, so a run may stop at any number.
Both kinds of evidence below are averages of nonnegative martingales that have the mean 1 if the tested mean is the true
mean. By Ville's inequality, the probability that the evidence ever exceeds 1/a is then at most a.

For bounded values, the evidence is the mean wealth of imaginary bettors, each with a fixed stake. They start with the
wealth 1 and bet on each value against the tested mean (I. Waudby-Smith, A. Ramdas, J. R. Statist. Soc. B 86 (2024)
1-27). It is valid for every distribution within the bounds and every number of values.

For other values, the evidence is exp(l S - l^2 V / 2), averaged over normal l, where S is the sum of the deviations
from the tested mean and V is the sum of their squares (V. H. de la Pena, Ann. Probab. 27 (1999) 537-564; S. R. Howard,
A. Ramdas, J. McAuliffe, J. Sekhon, Ann. Statist. 49 (2021) 1055-1080). It is valid exactly if the values are symmetric
about their mean, as differences of two variants with the same distribution are. Otherwise it is valid approximately, if
there are many values.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from relab.stats.intervals import Interval, check_level
from relab.stats.two_sample import TestResult

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

FIRST_VALUES: Final = 10
"""Number of first values that set the scale of values without bounds; with fewer there is no evidence."""
_STAKES: Final = tuple(0.98 * 2 ** (-step / 3) for step in range(25))
"""Stakes, as shares of the bet that loses all wealth in the worst case: large for rare differences, small for noisy ones."""
_STEPS: Final = 60
"""Bisection steps: more precise than a double of the width of the bounds."""
_GRID: Final = 400
_WIDEST: Final = 1e4
"""An end of an interval counts as infinite if its distance from the mean exceeds this multiple of the root mean square.
"""


class MarginFinding(StrEnum):
    """The relation of a mean difference to a margin: above +margin, below -margin, or between the two."""

    HIGHER = "higher"
    LOWER = "lower"
    EQUIVALENT = "equivalent"


@dataclass(frozen=True, slots=True)
class MeanEvidence:
    """The evidence against a tested mean, as natural logarithms of two e-values, one for each direction.

    A log e-value above log(2 / a) refutes the tested mean at the significance level `a`; -inf means no evidence. The
    evidence may be computed again after each new value. If the tested mean is the true mean, the probability that an
    e-value exceeds 2 / a at any time is at most a / 2.

    Attributes:
        above: the log e-value for a true mean above the tested mean.
        below: the log e-value for a true mean below the tested mean.
    """

    # If the tested mean is the true mean, each field ever exceeds log(2 / a) with a probability of at most a / 2.
    above: float
    below: float

    @property
    def p_value(self) -> float:
        """The two-sided p-value, 0..1, of the hypothesis that the true mean equals the tested mean.

        The p-value is always valid: it may be computed again after each new value.
        """
        return min(1.0, 2 * math.exp(-max(self.above, self.below, 0.0)))


def evidence(values: Floats, mean: float, bounds: tuple[float, float] | None = None) -> MeanEvidence:
    """Return the evidence of `values` against the hypothesis that their true mean is `mean`, as two log e-values.

    One is for a true mean above `mean`, one for a true mean below. They are valid even if they are computed again after
    each new value.

    Args:
        values: independent values, in an order that was fixed before they were observed.
        mean: the tested mean; within the bounds.
        bounds: smallest and largest possible value; None if there are no such limits.
    """
    import numpy as np

    if not len(values):
        return MeanEvidence(-math.inf, -math.inf)
    if bounds is None:
        above, below = _symmetric(values, np.array([mean]))
        return MeanEvidence(float(above[0]), float(below[0]))
    found, counts = np.unique(values, return_counts=True)
    above, below = (_mixed(counts @ log_gains) for log_gains in _log_gains(found, mean, bounds))
    return MeanEvidence(float(above), float(below))


def evidence_path(values: Floats, mean: float, bounds: tuple[float, float] | None = None) -> tuple[Floats, Floats]:
    """Return the evidence (log e-values) against a tested mean after each value, for several sequences of values.

    A log e-value above log(2 / a) refutes the tested mean at the level `a`; -inf means no evidence.

    Args:
        values: shape `(runs, n)`: one sequence of `n` independent values per row.
        mean: the tested mean; within the bounds.
        bounds: smallest and largest possible value; None if there are no such limits.

    Returns:
        `(above, below)`: the evidence that the true mean is above the tested mean, and the evidence that it is below.
        Each array has the shape of `values`; column `i` is the evidence from the first `i + 1` values.
    """
    import numpy as np

    if bounds is not None:
        above, below = (_mixed(np.cumsum(gains, axis=-2)) for gains in _log_gains(values, mean, bounds))
        return above, below
    deviations = values - mean
    sums, squares = np.cumsum(deviations, axis=-1), np.cumsum(deviations**2, axis=-1)
    if values.shape[-1] < FIRST_VALUES:
        nothing = np.full(values.shape, -np.inf)
        return nothing, nothing
    sums = _without_rounding(sums, values, mean, np.arange(1.0, values.shape[-1] + 1))
    above, below = _self_normalised(sums, squares, squares[..., FIRST_VALUES - 1 : FIRST_VALUES])
    above[..., : FIRST_VALUES - 1] = below[..., : FIRST_VALUES - 1] = -np.inf
    return above, below


def always_valid_interval(values: Floats, *, level: float, bounds: tuple[float, float] | None = None) -> Interval:
    """Return a confidence interval of the mean that stays valid if it is computed after each new value.

    With probability `level`, all intervals of the sequence contain the true mean (a confidence sequence).

    Args:
        values: independent values, in an order that was fixed before they were observed.
        level: confidence level of the whole sequence, 0..1.
        bounds: smallest and largest possible value; None if there are no such limits.

    Raises:
        ValueError: the level is not between 0 and 1.
    """
    check_level(level)
    threshold = math.log(2 / (1 - level))
    if bounds is not None:
        return Interval(*_bounded_ends(values, threshold, bounds), level, "always valid (bets)")
    return Interval(*_symmetric_ends(values, threshold), level, "always valid (self-normalised)")


def always_valid_test(values: Floats, bounds: tuple[float, float] | None = None) -> TestResult:
    """Test whether the mean of the values is 0; the test may be repeated after each new value without correction.

    Args:
        values: independent differences, in the order in which they were observed.
        bounds: smallest and largest possible difference; None if there are no such limits.
    """
    found = evidence(values, 0.0, bounds)
    return TestResult("always-valid evidence", found.p_value, float(values.mean()))


def finding(
    values: Floats, *, margin: float, alpha: float, bounds: tuple[float, float] | None = None
) -> tuple[MarginFinding, Interval] | None:
    """Return where the mean difference lies (above +margin, below -margin or between), and its always-valid interval.

    Return None if the values do not decide this yet. The function may be called after each new value.

    Args:
        values: independent differences, in an order that was fixed before they were observed.
        margin: the smallest difference that matters, 0 or more.
        alpha: the largest allowed probability, 0..1, that any of the repeated calls returns a wrong finding.
        bounds: smallest and largest possible difference; None if there are no such limits.
    """
    threshold = math.log(2 / alpha)
    upper, lower = evidence(values, margin, bounds), evidence(values, -margin, bounds)
    # A cheap necessary condition; most calls end here.
    if max(upper.above, lower.below, min(upper.below, lower.above)) < threshold:
        return None
    interval = always_valid_interval(values, level=1 - alpha, bounds=bounds)
    if interval.low > margin:
        return MarginFinding.HIGHER, interval
    if interval.high < -margin:
        return MarginFinding.LOWER, interval
    return (MarginFinding.EQUIVALENT, interval) if -margin < interval.low and interval.high < margin else None


def _log_gains(values: Floats, mean: float, bounds: tuple[float, float]) -> tuple[Floats, Floats]:
    """Return the logarithms of the gains from bets against the tested mean `mean`.

    There is one bet for each value and each stake in `_STAKES`. The gain is the factor by which a bet multiplies the
    bettor's wealth. The stake is the share of the wealth that the bet loses in the worst case.

    Returns:
        `(above, below)`: the gains of bets that the true mean is above `mean`, and of bets that it is below. Each array
        has the shape of `values` and one more axis, the stakes.
    """
    import numpy as np

    low, high = bounds
    stakes = np.array(_STAKES)
    rises, falls = (values - mean) / max(mean - low, 1e-300), (mean - values) / max(high - mean, 1e-300)
    return np.log1p(rises[..., None] * stakes), np.log1p(falls[..., None] * stakes)


def _mixed(log_wealth: Floats) -> Floats:
    """Return the logarithm of the mean wealth of imaginary bettors: the log e-value against the tested mean.

    Each bettor bets against the tested mean, and always risks the same share (the stake) of the wealth that is left.
    Source: I. Waudby-Smith, A. Ramdas, 2024 (see the top of this file).

    Args:
        log_wealth: the logarithm of each bettor's wealth. The last axis is the bettors, one per stake; the result does
            not have this axis.
    """
    import numpy as np

    # The mean wealth is the evidence against the hypothesis on which the bets were made.
    most = log_wealth.max(axis=-1)
    mixed: Floats = most + np.log(np.exp(log_wealth - most[..., None]).mean(axis=-1))
    return mixed


def _bounded_ends(values: Floats, threshold: float, bounds: tuple[float, float]) -> tuple[float, float]:
    # The evidence for "above" falls with the tested mean, that for "below" rises, so each has one crossing.
    if not len(values):
        return bounds
    mean = float(values.mean())

    def end(outside: float, name: str) -> float:
        if getattr(evidence(values, outside, bounds), name) < threshold:
            return outside
        inside = mean
        for _ in range(_STEPS):
            middle = (outside + inside) / 2
            if getattr(evidence(values, middle, bounds), name) >= threshold:
                outside = middle
            else:
                inside = middle
        # Return the rejected side of the last step, so that rounding never makes the interval too narrow.
        return outside

    return end(bounds[0], "above"), end(bounds[1], "below")


def _symmetric(values: Floats, means: Floats) -> tuple[Floats, Floats]:
    """Return the evidence of `values` against each tested mean in `means`, as log e-values.

    The values need no bounds. The evidence is exact if their distribution is symmetric about its mean. Otherwise it is
    approximate, and needs many values. With fewer than `FIRST_VALUES` values it is -inf.

    Returns:
        `(above, below)`, each with the shape of `means`: the evidence that the true mean is above the tested mean, and
        the evidence that it is below.
    """
    import numpy as np

    if values.size < FIRST_VALUES:
        nothing = np.full(means.shape, -np.inf)
        return nothing, nothing
    first = values[:FIRST_VALUES]

    def squares(of: Floats) -> Floats:
        centre = of.mean()
        found: Floats = ((of - centre) ** 2).sum() + of.size * (centre - means) ** 2
        return found

    sums = _without_rounding(values.size * (values.mean() - means), values, means, values.size)
    return _self_normalised(sums, squares(values), squares(first))


def _without_rounding(sums: Floats, values: Floats, mean: float | Floats, count: int | Floats) -> Floats:
    """Return sums of `count` deviations of `values` from `mean`, with 0 for each sum that rounding errors can explain."""
    import numpy as np

    # Equal values deviate from an equal mean by rounding alone; relative to their own scale, that would be evidence.
    size = np.maximum(np.abs(values).max(), np.abs(mean))
    kept: Floats = np.where(np.abs(sums) > 4 * np.finfo(float).eps * count * size, sums, 0.0)
    return kept


def _self_normalised(sums: Floats, squares: Floats, scale: Floats) -> tuple[Floats, Floats]:
    import numpy as np

    # Without a deviation in the first values there is no scale, and no evidence.
    with np.errstate(divide="ignore", invalid="ignore"):
        total = squares + scale
        # Twice the evidence, because it is compared with log(2 / a) as one of two sides.
        found = math.log(2) + sums**2 / (2 * total) + np.log(scale / total) / 2
    found = np.where(np.isfinite(found), found, -np.inf)
    return np.where(sums > 0, found, -np.inf), np.where(sums < 0, found, -np.inf)


def _symmetric_ends(values: Floats, threshold: float) -> tuple[float, float]:
    import numpy as np

    if values.size < FIRST_VALUES:
        return -math.inf, math.inf
    mean = float(values.mean())
    unit = math.sqrt(float(((values - mean) ** 2).mean()))
    if unit == 0 or not math.isfinite(unit):
        return -math.inf, math.inf
    ends = []
    for sign in (-1.0, 1.0):
        distances = unit * np.geomspace(1e-6, _WIDEST, _GRID)
        above, below = _symmetric(values, mean + sign * distances)
        kept = np.flatnonzero((above if sign < 0 else below) < threshold)
        # The end is the first distance beyond the last kept one, because a kept mean may lie beyond a rejected mean.
        last = -1 if not kept.size else int(kept[-1])
        ends.append(mean + sign * (float(distances[last + 1]) if last + 1 < _GRID else math.inf))
    return ends[0], ends[1]

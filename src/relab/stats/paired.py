"""The mean of paired differences: estimate, confidence interval and test.

Each task gives one difference: the variant's result minus the baseline's, each averaged over its repeats. Tasks that
share a source form a cluster, and clusters are independent. Sources: E. Miller, "Adding Error Bars to Evals", arXiv
2411.00640 (clustered errors); B. Efron, J. Am. Statist. Assoc. 82 (1987) 171-185 (BCa); T. C. Hesterberg, Am. Statist.
69 (2015) 371-386 (why the bootstrap is too narrow for small samples, and its expansion); P. Hall, J. R. Statist. Soc. B
54 (1992) 221-228 (skewness).

Each end of an interval is the outer one of two ends: the end of Student's interval, and the end by a method that
accounts for skewness. The need for both was measured in simulations of 400 to 500 runs each, with 999 draws. BCa alone
misses the mean of normal differences in 29 % of the runs with 3 clusters and in 11 % with 10 clusters, instead of the
nominal 5 %. If the variant loses 5 % of 80 tasks, Student's interval alone lies above the true difference in 10 % of
the runs, instead of the nominal 2.5 %. The interval can be too short for distributions with a long tail: with 12
log-normal differences (sigma 1), its upper end is too low in 9 % of the runs. Latency and cost have long tails, so
compare them by ratios instead.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from relab.stats.bootstrap import bca_of_mean
from relab.stats.distributions import fair_coin_two_sided, t_quantile, t_two_sided
from relab.stats.intervals import LEVEL, Interval, check_level
from relab.stats.two_sample import TestResult

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

FEW_CLUSTERS = 300
"""With fewer clusters, interval and test use bootstrap and permutation; from this number on, both use formulas."""
RESAMPLES = 4_999
"""Bootstrap and permutation draws. Rare events need many: one loss in 200 tasks passes a gate of -0.02 for 34 % of
seeds with 299 draws, for 2 % with 999, and for none of 60 seeds with this number."""
EXACT_FLIPS = 16
"""Up to this number n of clusters, the permutation test is exact: it enumerates all 2^n sign flips."""
_BATCH = 1_000
_EQUAL = 1e-9
"""Values that differ by at most this share of the largest value count as equal; the difference is rounding."""
_MAX_MAGNITUDE = sys.float_info.max / 4
_SYMMETRIC = 1e-6
"""Below this skewness of the mean, Hall's correction is smaller than the rounding error."""


@dataclass(frozen=True, slots=True, eq=False)
class Clusters:
    """Values, such as the differences of tasks, summed by cluster; clusters are independent.

    Attributes:
        sums: the sum of the values of each cluster.
        sizes: the number of values in each cluster.
    """

    sums: Floats
    sizes: Floats

    @property
    def count(self) -> int:
        """The number of clusters (groups of dependent values)."""
        return int(self.sums.size)

    @property
    def mean(self) -> float:
        """The mean of all values."""
        return float(self.sums.sum() / self.sizes.sum())

    @property
    def spread(self) -> Floats:
        """For each cluster, the sum of its values minus the expected sum: the overall mean times the cluster's size."""
        return self.sums - self.mean * self.sizes

    @property
    def standard_error(self) -> float:
        """The clustered standard error of the mean; nan for a single cluster."""
        if self.count < 2:
            return math.nan
        largest = float(abs(self.spread).max())
        # Scaled by the largest value, so that squares neither overflow nor underflow.
        scaled = self.spread / (largest or 1.0)
        root = math.sqrt(self.count / (self.count - 1) * float(scaled @ scaled))
        return root / float(self.sizes.sum()) * largest

    @property
    def is_constant(self) -> bool:
        """Whether all clusters (groups of values) have the same mean. Their variance cannot be estimated then."""
        return not self.varies()

    def varies(self, width: float = 0.0) -> bool:
        """Return whether the means of the clusters (of dependent values) differ by more than rounding errors.

        `width` is the length of the range of possible values, such as 2 for -1 to 1; 0 if it is unknown. The wider the
        range is, the larger is a difference that still counts as a rounding error.
        """
        scale = max(float(abs(self.sums / self.sizes).max()), width)
        return bool((abs(self.spread / self.sizes) > _EQUAL * scale).any())


@dataclass(frozen=True, slots=True)
class PairedDelta:
    """The mean of paired differences, with its interval and test.

    Attributes:
        estimate: the mean difference, variant minus baseline.
        interval: the confidence interval of the estimate.
        test: the test of whether the true mean difference is 0.
        standard_error: clustered standard error of the estimate; nan for a single cluster.
        pairs: number of differences.
        clusters: number of independent clusters.
    """

    estimate: float
    interval: Interval
    test: TestResult
    standard_error: float
    pairs: int
    clusters: int


def cluster(deltas: Sequence[float], groups: Sequence[Hashable] | None = None) -> Clusters:
    """Sum differences by cluster.

    Args:
        deltas: the differences.
        groups: the name of each difference's cluster; None if each difference is a cluster by itself.

    Raises:
        ValueError: there are no differences, one is not finite, they are too large to be summed, or the number of
            groups differs from the number of differences.
    """
    if len(deltas) == 0 or not all(map(math.isfinite, deltas)):
        raise ValueError("differences must be given, and finite")
    import numpy as np

    values = np.asarray(deltas, dtype=float)
    # A deviation from the mean can be twice as large as a value, and sums of deviations must not overflow.
    if float(abs(values).max()) > _MAX_MAGNITUDE / values.size:
        raise ValueError("the differences are too large to be summed")
    if groups is None:
        return Clusters(values, np.ones_like(values))
    if len(groups) != len(deltas):
        raise ValueError(f"{len(groups)} groups for {len(deltas)} differences")
    numbers: dict[Hashable, int] = {}
    index = np.array([numbers.setdefault(group, len(numbers)) for group in groups])
    return Clusters(np.bincount(index, weights=values).astype(float), np.bincount(index).astype(float))


def paired_delta(
    deltas: Sequence[float],
    groups: Sequence[Hashable] | None = None,
    *,
    level: float = LEVEL,
    bounds: tuple[float, float] | None = None,
    seed: int = 0,
) -> PairedDelta:
    """Estimate the mean of paired differences, with its confidence interval and its test against 0.

    The order of the differences does not change the result.

    Args:
        deltas: the difference (variant minus baseline) of each task.
        groups: the name of each task's cluster; None if tasks are independent.
        level: confidence level, 0..1.
        bounds: smallest and largest possible difference, (-1, 1) for rates; None if there are no such limits.
        seed: seed of the resampling.

    Raises:
        ValueError: there are no differences, one is not finite, they are too large to be summed, `groups` has another
            length, or the level is not between 0 and 1.
    """
    clusters = cluster(deltas, groups)
    return PairedDelta(
        estimate=clusters.mean,
        interval=interval_of(clusters, level=level, bounds=bounds, seed=seed),
        test=_test(clusters, seed),
        standard_error=clusters.standard_error,
        pairs=len(deltas),
        clusters=clusters.count,
    )


def interval_of(
    clusters: Clusters,
    *,
    level: float = LEVEL,
    bounds: tuple[float, float] | None = None,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> Interval:
    """Return the confidence interval of the mean difference.

    Two intervals are computed: Student's interval, and the BCa bootstrap interval over clusters. With 300 or more
    clusters, Hall's interval (for skewed data) replaces the bootstrap. The result reaches from the lower of the two
    lower ends to the higher of the two upper ends.

    With one cluster, or equal differences, neither method works. Without `bounds`, the interval is then infinite. With
    `bounds`, it lies inside them, and is narrower the more clusters there are.

    Args:
        clusters: the differences, summed by cluster.
        level: confidence level, 0..1.
        bounds: smallest and largest possible difference; the interval is cut there. None if there are no limits.
        seed: seed of the resampling.
        resamples: number of bootstrap draws.

    Raises:
        ValueError: the level is not between 0 and 1.
    """
    check_level(level)
    width = 0.0 if bounds is None else bounds[1] - bounds[0]
    if clusters.count < 2 or not clusters.varies(width):
        return _interval_of_equals(clusters, level, bounds)
    is_few = clusters.count < FEW_CLUSTERS
    student, other = _student(clusters, level), (_bca if is_few else _hall)(clusters, level, seed, resamples)
    low, high = min(student.low, other.low), max(student.high, other.high)
    if bounds is not None:
        low, high = max(low, min(bounds[0], clusters.mean)), min(high, max(bounds[1], clusters.mean))
    return Interval(low, high, level, f"{student.method} or {other.method}, the wider")


def mcnemar_exact(gained: int, lost: int) -> TestResult:
    """Compare two variants by the tasks that only one of them solves, by McNemar's exact two-sided test.

    `gained` is the number of tasks that only the second variant solves, `lost` the number that only the first solves.

    Source: Q. McNemar, Psychometrika 12 (1947) 153-157; exact with the binomial distribution.

    Raises:
        ValueError: a count is negative.
    """
    if gained < 0 or lost < 0:
        raise ValueError(f"counts cannot be negative: {gained} and {lost}")
    if gained + lost == 0:
        return TestResult("McNemar (exact)", 1.0, 0.0)
    return TestResult("McNemar (exact)", fair_coin_two_sided(gained, gained + lost), float(gained - lost))


def _test(clusters: Clusters, seed: int) -> TestResult:
    if clusters.count < 2:
        return TestResult("none: one cluster", 1.0, clusters.mean)
    sums = abs(clusters.sums)
    if bool((clusters.sizes == 1).all()) and bool(((sums == 0) | (sums == 1)).all()):
        return mcnemar_exact(int((clusters.sums > 0).sum()), int((clusters.sums < 0).sum()))
    if clusters.is_constant:
        # Of all 2^n sign flips, only the observed signs and their opposite give a sum this far from 0.
        p_value = math.ldexp(1.0, 1 - clusters.count) if clusters.mean else 1.0
        return TestResult("sign-flip permutation (exact)", p_value, clusters.mean)
    if clusters.count >= FEW_CLUSTERS:
        t = clusters.mean / clusters.standard_error
        return TestResult("Student t (clustered)", t_two_sided(t, clusters.count - 1), t)
    return _sign_flips(clusters, seed)


def _sign_flips(clusters: Clusters, seed: int) -> TestResult:
    """Return the sign-flip permutation test of whether the mean of all differences is 0.

    The signs of whole clusters are flipped. With at most `EXACT_FLIPS` clusters, the p-value is exact; with more, it is
    simulated with random signs from `seed`.
    """
    import numpy as np

    # The p-value is the share of sign changes whose total is at least as far from 0 as the observed total.
    # Signs are drawn for absolute sums in ascending order, so that neither the order nor the sign of the data matters.
    sizes = np.sort(abs(clusters.sums)) / float(abs(clusters.sums).max())
    seen = abs(float(clusters.sums.sum())) / float(abs(clusters.sums).max()) - _EQUAL * float(sizes.sum())
    if clusters.count <= EXACT_FLIPS:
        numbers = np.arange(2**clusters.count)
        signs = 1 - 2 * ((numbers[:, None] >> np.arange(clusters.count)) & 1)
        extreme = int((abs(signs @ sizes) >= seen).sum())
        return TestResult("sign-flip permutation (exact)", extreme / numbers.size, clusters.mean)
    random = _generator(seed)
    extreme = total = 0
    while total < RESAMPLES:
        rows = min(_BATCH, RESAMPLES - total)
        flipped = random.integers(0, 2, size=(rows, clusters.count)) * 2 - 1
        extreme += int((abs(flipped @ sizes) >= seen).sum())
        total += rows
    # The observed signs count as one of the draws, so that the p-value is never 0.
    return TestResult(f"sign-flip permutation ({RESAMPLES:,} draws)", (extreme + 1) / (total + 1), clusters.mean)


def _student(clusters: Clusters, level: float) -> Interval:
    half = t_quantile((1 + level) / 2, clusters.count - 1) * clusters.standard_error
    return Interval(clusters.mean - half, clusters.mean + half, level, "Student t (clustered)")


def _bca(clusters: Clusters, level: float, seed: int, resamples: int) -> Interval:
    """Return the BCa bootstrap interval of the mean difference, with the confidence level `level`.

    `clusters` has the differences by cluster; the bootstrap draws whole clusters, because only they are independent.
    """
    import numpy as np
    from scipy import special

    count = clusters.count
    # Clusters are drawn in a fixed order and with the longer tail at the upper end, so that neither the order of the
    # data nor swapping variant and baseline changes a figure.
    error = clusters.standard_error
    error = math.copysign(error, float(((clusters.spread / error) ** 3).sum()))
    deviations = clusters.spread / error
    order = np.lexsort((clusters.sizes, deviations))
    # The bootstrap of few clusters is too narrow: wider tails make it as wide as Student's interval for normal data.
    quantile = t_quantile((1 + level) / 2, count - 1) * math.sqrt(count / (count - 1))
    # Draws cannot resolve tails smaller than 1 / resamples.
    outside = max(2 * float(special.ndtr(-quantile)), 1 / resamples)
    found = bca_of_mean(
        deviations[order], clusters.sizes[order], outside=outside, resamples=resamples, random=_generator(seed)
    )
    low, high = sorted(clusters.mean + error * end for end in found)
    return Interval(low, high, level, f"BCa bootstrap ({resamples:,} draws)")


def _hall(clusters: Clusters, level: float, _seed: int, _resamples: int) -> Interval:
    """Return Hall's interval of the mean difference: Student's t after a cubic transformation that removes skewness.

    `clusters` has the differences by cluster; clusters are independent of each other.
    """
    import numpy as np

    scaled = clusters.spread / float(abs(clusters.spread).max())
    skewness = float((scaled**3).sum() / (scaled @ scaled) ** 1.5)
    quantile = t_quantile((1 + level) / 2, clusters.count - 1)

    def t_of(x: float) -> float:
        if abs(skewness) < _SYMMETRIC:
            return x
        return 3 / skewness * (float(np.cbrt(1 + skewness * (x - skewness / 6))) - 1)

    mean, error = clusters.mean, clusters.standard_error
    return Interval(mean - error * t_of(quantile), mean - error * t_of(-quantile), level, "Hall's (skewness)")


def _generator(seed: int) -> np.random.Generator:
    import numpy as np

    # numpy accepts no negative seed.
    return np.random.default_rng(seed % 2**64)


def _interval_of_equals(clusters: Clusters, level: float, bounds: tuple[float, float] | None) -> Interval:
    """Return the confidence interval of the mean for clusters (groups) of equal differences, or for a single cluster.

    `bounds` are the smallest and largest possible difference. If they are None, the interval is infinite. Otherwise
    each end lies between the mean and a bound: it allows for differences that are so rare that none was observed.
    """
    if bounds is None:
        return Interval(-math.inf, math.inf, level, "none: the differences do not vary")
    mean, (low, high) = clusters.mean, bounds
    # The effective number of clusters of unequal size (L. Kish, "Survey Sampling", 1965, section 11.7).
    count = float(clusters.sizes.sum()) ** 2 / float(clusters.sizes @ clusters.sizes)
    # The worst case: a share q of the possible differences lies at a bound, and none of them was observed. The
    # probability of this is (1 - q)^n; q makes it equal to the tail probability (1 - level) / 2.
    share = 1 - ((1 - level) / 2) ** (1 / count)
    return Interval(
        mean - share * max(0.0, mean - low),
        mean + share * max(0.0, high - mean),
        level,
        "bound of equal differences",
    )

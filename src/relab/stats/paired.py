"""The mean of paired differences: how large, how sure, and how likely by chance.

A pair is a task: what a variant made of it less what the baseline made of it, repeats
averaged first. Tasks that share a source form a cluster, and clusters are what is
independent. Sources: E. Miller, "Adding Error Bars to Evals", arXiv 2411.00640 (clustered
errors); B. Efron, J. Am. Statist. Assoc. 82 (1987) 171-185 (BCa); T. C. Hesterberg, Am.
Statist. 69 (2015) 371-386 (why the bootstrap is too narrow for few, and its expansion);
P. Hall, J. R. Statist. Soc. B 54 (1992) 221-228 (skewness).

Intervals are the wider, at each end, of Student's and one that follows skewness. In 400 to
500 simulated runs each, with 999 draws, BCa alone misses a normal mean in 29 % of cases with 3
clusters and in 11 % with 10, where 5 % are meant, and Student's alone lies above a rate that is lost in 5 % of 80 tasks in 10 % of cases, where 2.5 %
are meant. Long tails stay hard: with 12 log-normal differences (sigma 1) the upper end is too
low in 9 %, so that latency and cost are better compared by ratios.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from relab.stats.distributions import fair_coin_two_sided, t_quantile, t_two_sided
from relab.stats.intervals import EQUAL, LEVEL, Interval, check_level
from relab.stats.two_sample import TestResult

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

FEW_CLUSTERS = 300
"""Below, the interval is bootstrapped and the test permutes; from here on both are of formulas."""
RESAMPLES = 4_999
"""Rare events need many: one loss in 200 tasks passes a gate of -0.02 for 34 % of seeds with 299 draws, for 2 % with
999, and for none of 60 with these."""
EXACT_FLIPS = 16
"""Up to so many clusters all 2^n changes of sign are tried."""
_BATCH = 1_000
_LARGEST = sys.float_info.max / 4
_SYMMETRIC = 1e-6
"""A skewness of the mean below which Hall's correction is less than rounding."""


@dataclass(frozen=True, slots=True, eq=False)
class Clusters:
    """Differences summed by what is independent.

    Attributes:
        sums: the sum of the differences of each cluster.
        sizes: the number of differences in each.
    """

    sums: Floats
    sizes: Floats

    @property
    def count(self) -> int:
        """How many clusters there are."""
        return int(self.sums.size)

    @property
    def mean(self) -> float:
        """The mean of all differences."""
        return float(self.sums.sum() / self.sizes.sum())

    @property
    def spread(self) -> Floats:
        """What each cluster's sum is beyond the mean of all."""
        return self.sums - self.mean * self.sizes

    @property
    def standard_error(self) -> float:
        """The standard error of the mean, by clusters; nan for one, which says nothing of it."""
        if self.count < 2:
            return math.nan
        largest = float(abs(self.spread).max())
        # In units of the largest, so that squares neither overflow nor vanish.
        scaled = self.spread / (largest or 1.0)
        root = math.sqrt(self.count / (self.count - 1) * float(scaled @ scaled))
        return root / float(self.sizes.sum()) * largest

    @property
    def is_constant(self) -> bool:
        """Whether all clusters have the same mean, so that nothing can be said of their spread."""
        return not self.varies()

    def varies(self, width: float = 0.0) -> bool:
        """Return whether the clusters' means differ by more than rounding, given what differences can span."""
        scale = max(float(abs(self.sums / self.sizes).max()), width)
        return bool((abs(self.spread / self.sizes) > EQUAL * scale).any())


@dataclass(frozen=True, slots=True)
class PairedDelta:
    """What paired differences say of their mean.

    Attributes:
        estimate: the mean difference, variant less baseline.
        standard_error: of the estimate, clustered; nan for one cluster.
        pairs: how many differences there are; clusters: how many independent groups of them.
    """

    estimate: float
    interval: Interval
    test: TestResult
    standard_error: float
    pairs: int
    clusters: int


def cluster(deltas: Sequence[float], groups: Sequence[Hashable] | None = None) -> Clusters:
    """Sum differences by group; without groups each is its own.

    Raises:
        ValueError: there are none, one is not finite, they are too large to be summed, or the groups are not as many
            as the differences.
    """
    if len(deltas) == 0 or not all(map(math.isfinite, deltas)):
        raise ValueError("differences must be given, and finite")
    import numpy as np

    values = np.asarray(deltas, dtype=float)
    # Room for sums of twice each, which is what a deviation from the mean can be.
    if float(abs(values).max()) > _LARGEST / values.size:
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
    """Estimate the mean of paired differences.

    Args:
        deltas: one per task.
        groups: what each task's cluster is called; None if tasks are independent.
        level: of the interval, 0..1.
        bounds: the least and the greatest difference there can be, (-1, 1) for rates.
        seed: of the resampling, so that the same data give the same figures, in whatever order.

    Raises:
        ValueError: the differences cannot be clustered (see `cluster`), or the level is no share.
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
    """Return the interval of the mean difference; it contains the estimate.

    At each end the wider of Student's and, below 300 clusters, BCa over clusters, from there on Hall's; within the
    bounds, if there are any. Where all differences are equal none of them says anything: bounded ones get the bound
    for "none of n differed", others no bound.

    Args:
        clusters: the differences.
        level: of the interval, 0..1.
        bounds: the least and the greatest difference there can be.
        seed: of the resampling.
        resamples: draws of the bootstrap.

    Raises:
        ValueError: the level is no share.
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
    """Compare two variants by the tasks that only one of them solves: McNemar's test, exact and two-sided.

    Source: Q. McNemar, Psychometrika 12 (1947) 153-157; exact by the binomial distribution.

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
        # Only the signs as they are and all of them changed give a sum this far from 0.
        p_value = math.ldexp(1.0, 1 - clusters.count) if clusters.mean else 1.0
        return TestResult("sign-flip permutation (exact)", p_value, clusters.mean)
    if clusters.count >= FEW_CLUSTERS:
        t = clusters.mean / clusters.standard_error
        return TestResult("Student t (clustered)", t_two_sided(t, clusters.count - 1), t)
    return _sign_flips(clusters, seed)


def _sign_flips(clusters: Clusters, seed: int) -> TestResult:
    """Ask how often a sum this far from 0 comes of signs by chance."""
    import numpy as np

    # Signs are drawn for sizes in ascending order, so that the order of the data changes nothing, nor does their sign.
    sizes = np.sort(abs(clusters.sums)) / float(abs(clusters.sums).max())
    seen = abs(float(clusters.sums.sum())) / float(abs(clusters.sums).max()) - EQUAL * float(sizes.sum())
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
    # The data themselves are one of the ways: a p-value of 0 would be a lie.
    return TestResult(f"sign-flip permutation ({RESAMPLES:,} draws)", (extreme + 1) / (total + 1), clusters.mean)


def _student(clusters: Clusters, level: float) -> Interval:
    half = t_quantile((1 + level) / 2, clusters.count - 1) * clusters.standard_error
    return Interval(clusters.mean - half, clusters.mean + half, level, "Student t (clustered)")


def _bca(clusters: Clusters, level: float, seed: int, resamples: int) -> Interval:
    """Return the BCa interval at the level that makes a bootstrap of normal data as wide as Student's."""
    import numpy as np
    from scipy import special, stats

    count = clusters.count
    # Draws are made for clusters in a fixed order, and with the longer tail above: neither the order of the data
    # nor which of two variants is called the baseline then changes a figure.
    error = clusters.standard_error
    error = math.copysign(error, float(((clusters.spread / error) ** 3).sum()))
    deviations = clusters.spread / error
    order = np.lexsort((clusters.sizes, deviations))
    deviations, sizes = deviations[order], clusters.sizes[order]

    def mean(deviations: Any, sizes: Any, axis: int = -1) -> Any:
        # A mean that equals that of the data must do so to the last digit, or ties would count as a bias.
        return np.round(deviations.sum(axis=axis) / sizes.sum(axis=axis), 12)

    quantile = t_quantile((1 + level) / 2, count - 1) * math.sqrt(count / (count - 1))
    # No draw lies farther out than one in so many.
    outside = max(2 * float(special.ndtr(-quantile)), 1 / resamples)
    found = stats.bootstrap(
        (deviations, sizes),
        mean,
        paired=True,
        vectorized=True,
        confidence_level=1 - outside,
        n_resamples=resamples,
        batch=_BATCH,
        method="BCa",
        rng=_generator(seed),
    ).confidence_interval
    low, high = sorted(clusters.mean + error * float(end) for end in found)
    return Interval(low, high, level, f"BCa bootstrap ({resamples:,} draws)")


def _hall(clusters: Clusters, level: float, _seed: int, _resamples: int) -> Interval:
    """Return the interval of Hall's cubic transformation of Student's t, which takes the skewness out of it."""
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

    # Any whole number is a seed; numpy takes none below 0.
    return np.random.default_rng(seed % 2**64)


def _interval_of_equals(clusters: Clusters, level: float, bounds: tuple[float, float] | None) -> Interval:
    """Return what differences without spread allow.

    With chance q of a difference farther down, none of n lies there with (1 - q)^n; the q for which that is the
    tail, and all of it at the bound, is the worst there is. It holds for whichever value all turned out to have.
    """
    if bounds is None:
        return Interval(-math.inf, math.inf, level, "none: the differences do not vary")
    mean, (low, high) = clusters.mean, bounds
    # Clusters of unequal size say as much as so many equal ones (L. Kish, "Survey Sampling", 1965, section 11.7).
    count = float(clusters.sizes.sum()) ** 2 / float(clusters.sizes @ clusters.sizes)
    share = 1 - ((1 - level) / 2) ** (1 / count)
    return Interval(
        mean - share * max(0.0, mean - low),
        mean + share * max(0.0, high - mean),
        level,
        "bound of equal differences",
    )

"""The difference of two means without pairs: estimate, confidence interval and test."""

from __future__ import annotations

import math
from dataclasses import dataclass

from relab.stats.distributions import t_quantile, t_two_sided
from relab.stats.intervals import LEVEL, Interval, wilson
from relab.stats.paired import Clusters
from relab.stats.two_sample import TestResult, fisher_exact


@dataclass(frozen=True, slots=True)
class UnpairedDelta:
    """The difference of the means of two independent samples.

    Attributes:
        estimate: the second mean minus the first.
        interval: the confidence interval of the estimate.
        test: the test of whether the true difference is 0.
        standard_error: clustered standard error of the estimate; nan if a sample has only one cluster.
        clusters: number of clusters in the sample with fewer clusters.
    """

    estimate: float
    interval: Interval
    test: TestResult
    standard_error: float
    clusters: int


def newcombe(hits_a: int, total_a: int, hits_b: int, total_b: int, *, level: float = LEVEL) -> Interval:
    """Return Newcombe's interval of `hits_b / total_b` minus `hits_a / total_a`, from both rates' score intervals.

    Source: R. G. Newcombe, Statist. Med. 17 (1998) 873-890, method 10.

    Raises:
        ValueError: a sample is empty or has more hits than trials, or the level is not between 0 and 1.
    """
    a, b = wilson(hits_a, total_a, level=level), wilson(hits_b, total_b, level=level)
    rate_a, rate_b = hits_a / total_a, hits_b / total_b
    delta = rate_b - rate_a
    low = delta - math.hypot(rate_b - b.low, a.high - rate_a)
    high = delta + math.hypot(b.high - rate_b, rate_a - a.low)
    return Interval(low, high, level, "Newcombe (score)")


def unpaired_delta(a: Clusters, b: Clusters, *, level: float = LEVEL, is_rate: bool = False) -> UnpairedDelta:
    """Estimate the mean of sample `b` minus the mean of sample `a`, with its confidence interval and test.

    The methods depend on the values. The first case that applies decides:

    - Newcombe's interval and Fisher's test, with each cluster as one trial: `is_rate` is true, all values are 0 or 1,
      and each sample meets one of two conditions. Each of its clusters has a single value, or all its values are equal.
    - An infinite interval, and the p-value 1: neither sample varies, or a sample has only one cluster.
    - Welch's interval and test: all other cases.

    Args:
        a: the values of the first sample, summed by cluster.
        b: the values of the second sample, summed by cluster.
        level: confidence level, 0..1.
        is_rate: whether each value is a share of successes in a trial or task, 0..1.
    """
    error = math.hypot(a.standard_error, b.standard_error)
    estimate, clusters = b.mean - a.mean, min(a.count, b.count)
    if is_rate and _is_binary(a, b):
        hits = [round(float((sample.sums / sample.sizes).sum())) for sample in (a, b)]
        interval = newcombe(hits[0], a.count, hits[1], b.count, level=level)
        return UnpairedDelta(estimate, interval, fisher_exact(hits[1], b.count, hits[0], a.count), error, clusters)
    # The sums of equal values differ by rounding, so their error need not be exactly 0.
    if clusters < 2 or (a.is_constant and b.is_constant):
        nothing = Interval(-math.inf, math.inf, level, "none: the values do not vary, or are too few")
        return UnpairedDelta(estimate, nothing, TestResult("none", 1.0, estimate), error, clusters)
    freedom = _freedom(a, b)
    half = t_quantile((1 + level) / 2, freedom) * error
    t = estimate / error
    return UnpairedDelta(
        estimate,
        Interval(estimate - half, estimate + half, level, "Welch t"),
        TestResult("Welch t", t_two_sided(t, freedom), t),
        error,
        clusters,
    )


def _is_binary(a: Clusters, b: Clusters) -> bool:
    means = [sample.sums / sample.sizes for sample in (a, b)]
    if not all(bool(((mean == 0) | (mean == 1)).all()) for mean in means):
        return False
    return all(bool((sample.sizes == 1).all()) or sample.is_constant for sample in (a, b))


def _freedom(a: Clusters, b: Clusters) -> float:
    """Return the Welch-Satterthwaite degrees of freedom (B. L. Welch, Biometrika 34 (1947) 28-35)."""
    variances = [sample.standard_error**2 for sample in (a, b)]
    parts = sum(variance**2 / (sample.count - 1) for variance, sample in zip(variances, (a, b), strict=True))
    return sum(variances) ** 2 / parts

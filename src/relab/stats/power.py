"""Statistical power: the power of a planned comparison, the sample size it needs, and its minimum detectable effect."""

from __future__ import annotations

import functools
import math
from itertools import pairwise

from relab.stats.distributions import t_quantile

ALPHA = 0.05
POWER = 0.8
_PRECISION = 1e-10
"""The relative precision of a root."""
_MAX_SAMPLE_SIZE = 1e9
_FAR = 9.0
"""A distance in standard deviations. The tails of a normal distribution beyond it have a probability of 2e-19."""


def power_of(effect: float, sd: float, count: int, *, alpha: float = ALPHA) -> float:
    """Return the power of a two-sided t test on `count` normal differences whose true mean is `effect`.

    Sources: N. L. Johnson, B. L. Welch, Biometrika 31 (1940) 362-389 (noncentral t); J. Cohen, "Statistical Power
    Analysis", 1988, ch. 2.

    Args:
        effect: the true mean of the differences, in their unit.
        sd: standard deviation of the differences, one per task (or cluster).
        count: number of differences; with fewer than two the power is 0.
        alpha: significance level of the test, 0..1.

    Raises:
        ValueError: the standard deviation is negative, alpha is not between 0 and 1, or a number is not finite.
    """
    _check(sd, alpha)
    if not math.isfinite(effect):
        raise ValueError(f"an effect is finite, not {effect}")
    if count < 2:
        return 0.0
    if sd == 0:
        return 1.0 if effect else alpha
    return _power_at(abs(effect) / sd * math.sqrt(count), count - 1, alpha)


def pass_chance(distance: float, sd: float, count: int, *, alpha: float = ALPHA) -> float:
    """Return the probability that a gate passes.

    A gate passes if the whole confidence interval of a mean meets the gate's bound. The probability is exact for
    normal differences and Student's interval.

    Args:
        distance: distance of the true mean from the bound; negative if the true mean violates the bound.
        sd: standard deviation of the differences, one per task (or cluster).
        count: number of differences; with fewer than two the probability is 0.
        alpha: 1 minus the confidence level of the interval.

    Raises:
        ValueError: the standard deviation is negative, alpha is not between 0 and 1, or a number is not finite.
    """
    _check(sd, alpha)
    if not math.isfinite(distance):
        raise ValueError(f"a distance is finite, not {distance}")
    if count < 2:
        return 0.0
    if sd == 0:
        return float(distance > 0)
    return _power_at(distance / sd * math.sqrt(count), count - 1, alpha, both=False)


def count_needed(distance: float, variance: float, *, alpha: float = ALPHA) -> int | None:
    """Return how many differences are needed so that a confidence interval excludes a bound with probability `POWER`.

    The interval must lie wholly on that side of the bound on which the true mean lies. The result is None if
    a billion differences are too few, or if the true mean lies on the bound.

    Args:
        distance: distance of the true mean from the bound, in either direction.
        variance: variance of the differences, one per task (or cluster).
        alpha: 1 minus the confidence level of the interval.

    Raises:
        ValueError: the variance is negative or not finite, or alpha is not between 0 and 1.
    """
    _check(math.sqrt(variance), alpha)
    if distance == 0:
        return None
    # Divided twice, because the square of a distance can underflow to 0 or overflow.
    ratio = variance / distance / distance

    def suffices(count: int) -> bool:
        # The quantiles of the noncentral t would change the result by only one or two.
        reach = t_quantile(1 - alpha / 2, count - 1) + t_quantile(POWER, count - 1)
        return reach**2 * ratio <= count

    low, high = 1, 2
    while not suffices(high):
        low, high = high, high * 2
        if high > _MAX_SAMPLE_SIZE:
            return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if suffices(middle) else (middle, high)
    return high


def minimum_detectable_effect(sd: float, count: int, *, alpha: float = ALPHA, power: float = POWER) -> float | None:
    """Return the smallest mean difference that a two-sided t test detects with probability `power`.

    Args:
        sd: standard deviation of the differences, one per task (or cluster).
        count: number of differences; with fewer than two the result is None.
        alpha: significance level of the test, 0..1.
        power: the required power, above `alpha` and below 1.

    Raises:
        ValueError: the standard deviation is negative or not finite, or alpha or the power is out of range.
    """
    _check(sd, alpha)
    if not alpha < power < 1:
        raise ValueError(f"the power wanted lies between alpha ({alpha}) and 1, not at {power}")
    if count < 2:
        return None
    if sd == 0:
        return 0.0
    return _detectable_shift(count - 1, alpha, power) * (sd / math.sqrt(count))


def success_delta_sd(rate: float, replications: int, *, task_share: float = 0.0) -> float:
    """Predict the standard deviation of the difference in success rate between two variants on one task.

    No measured data are needed. Source: E. Miller, arXiv 2411.00640, section 4 (paired variance, resampled answers).

    Args:
        rate: the assumed success rate of both variants, 0..1.
        replications: repeats of a task with each variant.
        task_share: the share, 0..1, of the variance of single results that exists because some tasks are harder than
            others. It cancels in the difference of two variants on the same task. If it is unknown, use 0: the result
            is then an upper limit, provided that each task is equally hard for both variants.

    Raises:
        ValueError: `rate` or `task_share` lies outside 0..1, or `replications` is below 1.
    """
    if not (0 <= rate <= 1 and 0 <= task_share <= 1):
        raise ValueError(f"shares lie between 0 and 1: {rate}, {task_share}")
    if replications < 1:
        raise ValueError(f"there is one replication at least, not {replications}")
    return math.sqrt(2 * rate * (1 - rate) * (1 - task_share) / replications)


@functools.lru_cache(maxsize=256)
def _detectable_shift(freedom: int, alpha: float, power: float) -> float:
    """Return how many standard errors from 0 a true mean must be, so that a t test detects it with probability `power`.

    The test is two-sided at the level `alpha`, with `freedom` degrees of freedom.
    """
    # Cached: the value takes 36 integrals, and all metrics of a run with the same number of tasks need the same value.
    low, high = 0.0, 1.0
    while _power_at(high, freedom, alpha) < power:
        low, high = high, high * 2
    # The power grows with the shift, so halving finds it. scipy.optimize takes longer to import than `lab describe` may take.
    while high - low > _PRECISION * high:
        middle = (low + high) / 2
        if _power_at(middle, freedom, alpha) < power:
            low = middle
        else:
            high = middle
    return high


def _power_at(shift: float, freedom: int, alpha: float, *, both: bool = True) -> float:
    """Return the power of a t test if the true mean lies `shift` standard errors above 0.

    Args:
        shift: the true mean, in standard errors.
        freedom: degrees of freedom.
        alpha: significance level of the two-sided test, 0..1.
        both: True for the two-sided test; False to count only rejections in favour of a mean above 0.
    """
    if math.isinf(shift):
        return float(both or shift > 0)
    from scipy import integrate, special

    critical = -t_quantile(alpha / 2, freedom)
    half = freedom / 2
    constant = math.log(2) + half * math.log(half) - half - float(special.gammaln(half))

    # The power is P(|Z + shift| > S * critical): Z is standard normal, S a chi variable divided by the root of its
    # degrees of freedom. scipy's noncentral t returns nan for few of them (in scipy 1.17 for 3 at a shift of 12).
    def noticed(s: float) -> float:
        density = math.exp(constant + (freedom - 1) * math.log(s) - half * (s - 1) * (s + 1))
        noticed_above = float(special.ndtr(shift - critical * s))
        return density * (noticed_above + float(special.ndtr(-shift - critical * s)) if both else noticed_above)

    # Outside this range, the probability is less than 1e-16: the norm of normal variables varies no more than one of
    # them.
    start, end = max(0.0, 1 - _FAR / math.sqrt(freedom)), 1 + _FAR / math.sqrt(freedom)
    # Points where the integrand bends: between 1 and 0, and near the maximum of the density.
    bends = {1.0, *((shift + z) / critical for z in (-_FAR, 0, _FAR))}
    ends = [start, *sorted(bend for bend in bends if start < bend < end), end]
    parts = [integrate.quad(noticed, a, b, epsabs=1e-11, epsrel=1e-9, limit=200)[0] for a, b in pairwise(ends)]
    return min(1.0, math.fsum(parts))


def _check(sd: float, alpha: float) -> None:
    if not math.isfinite(sd) or sd < 0:
        raise ValueError(f"a spread is finite and not negative, not {sd}")
    if not 0 < alpha < 1:
        raise ValueError(f"alpha lies between 0 and 1, not at {alpha}")

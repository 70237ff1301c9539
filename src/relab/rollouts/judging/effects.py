"""Compute the effect of a change of flags from windows of arm A and B, paired by round.

The effect of a round is its log ratio: the natural logarithm of the figure of B divided by that of A. A linear trend
over the rollout is subtracted. The last axis of all arrays is the round, so that a rollout and thousands of simulated
ones are computed by the same code.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from relab.rollouts.models import Effect
from relab.stats.distributions import t_quantile

Floats = NDArray[np.float64]

_TREND_ROUNDS = 3
"""A trend is estimated from this number of rounds on."""


@dataclass(frozen=True, slots=True, eq=False)
class Pairs:
    """The judged figures of the two sides of a comparison, paired by round (one measurement of each set of flags).

    The judged figure is the P95 latency, or the metric that the plan names. A side is one arm (set of flags), or the
    mean of several arms: normally, the first side is arm A (old flags) and the second one is arm B (new flags). The
    last axis of each array is the round: the shape is (rounds,), or (rollouts, rounds) for simulated rollouts.

    Attributes:
        log_a, log_b: natural logarithm of the judged figure in each measurement, for the first and the second side. If
            a side consists of several arms, the value is the mean of the arms' logarithms.
        index_a, index_b: position of the measurement in time, from 0, for the first and the second side. The shape is
            (rounds,) if all simulated rollouts have the same order.
    """

    log_a: Floats
    log_b: Floats
    index_a: Floats
    index_b: Floats

    @property
    def rounds(self) -> int:
        """The number of rounds; each round (one measurement of each set of flags) gives one pair of figures."""
        return int(self.log_a.shape[-1])


@dataclass(frozen=True, slots=True, eq=False)
class RunningEffect:
    """The effect of new flags (arm B) compared with the old flags (arm A) after each round.

    A round has one measurement of each arm. Its log ratio is the logarithm of the figure (P95 latency or another
    metric) of arm B divided by the figure of arm A. The arms are measured one after the other, so a linear trend of the
    figures over time changes the log ratio; from 3 rounds on, the effect of the trend is subtracted.

    The last axis of each array is the round; element i is computed from the rounds 0 to i. The shape is (rounds,), or
    (rollouts, rounds) for simulated rollouts.

    Attributes:
        mean: the effect: the mean of the rounds' log ratios.
        sd: standard deviation of the rounds' log ratios; nan after the first round.
        error: standard error of `mean`; nan after the first round.
    """

    mean: Floats
    sd: Floats
    error: Floats

    @property
    def rounds(self) -> int:
        """The number of rounds (each has one measurement of each set of flags): the length of the arrays' last axis."""
        return int(self.mean.shape[-1])

    def after(self, rounds: int) -> RunningEffect:
        """Return the effect as it was known after the first `rounds` rounds (each measures each set of flags once)."""
        return RunningEffect(self.mean[..., :rounds], self.sd[..., :rounds], self.error[..., :rounds])

    def last(self) -> tuple[float, float, float]:
        """Return (mean, standard deviation, standard error) after all measurements of a single rollout."""
        return float(self.mean[-1]), float(self.sd[-1]), float(self.error[-1])


def running_effect(pairs: Pairs) -> RunningEffect:
    """Return the effect of the new flags after each round (one measurement of each set of flags).

    The effect is the log ratio of arm B (new flags) to arm A (old flags). `pairs` has the figures (P95 latency or
    metric) of both arms.

    The arms are measured one after the other, so a linear trend of the figures over time changes the log ratio; from 3
    rounds on, the effect of the trend is subtracted.
    """
    difference, distance = pairs.log_b - pairs.log_a, pairs.index_b - pairs.index_a
    # Counted from the first round, so that the sums of squares lose no digits.
    # The slope is fitted by least squares to the mean of both arms. It is independent of their differences, so the
    # correction costs no degrees of freedom.
    level = (pairs.log_a + pairs.log_b) / 2
    level = level - level[..., :1]
    place = (pairs.index_a + pairs.index_b) / 2
    place = place - place[..., :1]
    count = np.arange(1, pairs.rounds + 1)
    has_trend = count >= _TREND_ROUNDS
    with np.errstate(divide="ignore", invalid="ignore"):
        place_squares = _products(place, place, count)
        slope = np.where(has_trend, _products(place, level, count) / place_squares, 0.0)
        residual = np.maximum(_products(level, level, count) - slope**2 * place_squares, 0.0)
        slope_variance = np.where(has_trend, residual / (count - 2) / place_squares, 0.0)
        squares = _products(difference, difference, count)
        squares = squares - 2 * slope * _products(difference, distance, count)
        squares = np.maximum(squares + slope**2 * _products(distance, distance, count), 0.0)
        variance = squares / np.where(count > 1, count - 1, np.nan)
    mean_distance = np.cumsum(distance, axis=-1) / count
    mean = np.cumsum(difference, axis=-1) / count - slope * mean_distance
    error = np.sqrt(variance / count + mean_distance**2 * slope_variance)
    return RunningEffect(mean, np.sqrt(variance), error)


def _products(a: Floats, b: Floats, count: NDArray[np.int64]) -> Any:
    """Return for each element the sum of `(a - mean of a) * (b - mean of b)` over this element and all before it.

    The means are over the same elements. Elements follow each other on the last axis, one for each round of a rollout.
    `count` is the array `1, 2, 3, ...` of the same length.
    """
    return np.cumsum(a * b, axis=-1) - np.cumsum(a, axis=-1) * np.cumsum(b, axis=-1) / count


def effect_pct(running: RunningEffect, *, alpha: float, scale: float = 1.0) -> Effect:
    """Return the effect of a rollout after its last round, in percent, with Student's confidence interval.

    A round has one measurement of each arm (set of flags). After only one round, the result has no interval.

    Args:
        running: the effect after each round of one rollout; its arrays have one axis.
        alpha: probability, 0..1, that the true effect lies beyond one end of the interval.
        scale: factor by which the log ratio is multiplied: 2 for the interaction of flow control and routing, because
            each side of that comparison is the mean of two arms; otherwise 1.
    """
    mean, _, error = running.last()
    estimate = percent(scale * mean)
    if running.rounds < 2:
        return Effect(estimate_pct=estimate)
    half = t_quantile(1 - alpha, running.rounds - 1) * error
    # A larger log ratio has no finite percentage: this end of the interval is unknown.
    high = scale * (mean + half)
    return Effect(
        estimate_pct=estimate,
        low_pct=percent(scale * (mean - half)),
        high_pct=percent(high) if high < _LARGEST_BOUND_LOG else None,
        level=1 - 2 * alpha,
    )


_LARGEST_LOG = 20.0
_LARGEST_BOUND_LOG = math.log(1_000)
"""An interval of two rounds may reach a billionfold; a bound above a thousandfold says nothing."""


def percent(log_ratio: float) -> float:
    """Convert a log ratio to a change in percent, such as -10.0 for log(0.9).

    Log ratios above 20 count as 20, so the result is at most about 5 * 10^10.
    """
    # Rounded, so that a change of exactly -10 % does not miss its threshold by the rounding error of the logarithm.
    return round(100 * math.expm1(min(log_ratio, _LARGEST_LOG)), 9)


def log_of(change_pct: float) -> float:
    """Convert a change in percent, which must be above -100, to a log ratio, such as log(0.9) for -10."""
    return math.log1p(change_pct / 100)

"""Tail probabilities and quantiles of distributions, computed with scipy.special.

scipy.stats offers the same, based on the same functions, but takes ten times as long to import: longer than most
commands run.
"""

from __future__ import annotations

import math


def t_quantile(level: float, freedom: float) -> float:
    """Return the quantile `level` (0..1) of Student's t distribution with `freedom` degrees of freedom."""
    from scipy import special

    return float(special.stdtrit(freedom, level))


def normal_tail(value: float) -> float:
    """Return the probability that a standard normal variable exceeds `value`."""
    from scipy import special

    return float(special.ndtr(-value))


def t_two_sided(t: float, freedom: float) -> float:
    """Return the two-sided p-value of `t` under Student's t distribution with `freedom` degrees of freedom."""
    from scipy import special

    return 2 * float(special.stdtr(freedom, -abs(t)))


def beta_quantile(level: float, a: float, b: float) -> float:
    """Return the quantile `level` (0..1) of the beta distribution with parameters `a` and `b`."""
    if b == 1:
        # The distribution function is x^a: no need to load scipy where all trials of a small run have one outcome.
        return float(level ** (1 / a))
    if a == 1:
        return -math.expm1(math.log1p(-level) / b)
    from scipy import special

    return float(special.betaincinv(a, b, level))


def gamma_quantile(level: float, shape: float) -> float:
    """Return the quantile `level` (0..1) of the gamma distribution with the given shape and scale 1."""
    from scipy import special

    return float(special.gammaincinv(shape, level))


def fair_coin_two_sided(heads: int, tosses: int) -> float:
    """Return the two-sided p-value of the hypothesis that a coin is fair, if `tosses` tosses give `heads` heads.

    This is the binomial test with the probability 1/2.
    """
    from scipy import special

    return min(1.0, 2 * float(special.bdtr(min(heads, tosses - heads), tosses, 0.5)))

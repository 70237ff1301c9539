"""Tails and quantiles of distributions, by scipy's special functions.

scipy.stats has them too, on the same functions, and takes ten times as long to load: longer than most commands take.
"""

from __future__ import annotations


def t_quantile(level: float, freedom: float) -> float:
    """Return the value that Student's t stays below with chance `level` (0..1)."""
    from scipy import special

    return float(special.stdtrit(freedom, level))


def normal_tail(value: float) -> float:
    """Return the chance that a standard normal lies above `value`."""
    from scipy import special

    return float(special.ndtr(-value))


def t_two_sided(t: float, freedom: float) -> float:
    """Return the chance that Student's t lies as far from 0 as `t`, on either side."""
    from scipy import special

    return 2 * float(special.stdtr(freedom, -abs(t)))


def beta_quantile(level: float, a: float, b: float) -> float:
    """Return the value that the beta distribution stays below with chance `level` (0..1)."""
    from scipy import special

    return float(special.betaincinv(a, b, level))


def gamma_quantile(level: float, shape: float) -> float:
    """Return the value that the gamma distribution of scale 1 stays below with chance `level` (0..1)."""
    from scipy import special

    return float(special.gammaincinv(shape, level))


def fair_coin_two_sided(heads: int, tosses: int) -> float:
    """Return the chance that a fair coin falls as unevenly as this, on either side; 1 at most."""
    from scipy import special

    return min(1.0, 2 * float(special.bdtr(min(heads, tosses - heads), tosses, 0.5)))

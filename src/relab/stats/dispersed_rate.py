"""Compute the confidence interval of an event rate from counts in time windows, even if events come in bursts."""

from __future__ import annotations

from collections.abc import Sequence

from relab.stats.distributions import gamma_quantile
from relab.stats.intervals import LEVEL, Interval, check_level, exact_ends

_DISPERSION_LEVEL = 0.9
"""Confidence level of an upper bound for the dispersion; this bound is used in place of the measured dispersion. For 8
windows of errors in bursts, the one-sided 95 % bound of the rate lay below the true rate in 3 % of simulations; with
the measured dispersion it did so in 12 %."""

_FEW_WINDOWS = 5
"""With fewer windows than this, the measured dispersion is used, because its upper bound would be many times as large.
"""


def dispersed_rate(hits: Sequence[int], totals: Sequence[int], *, level: float = LEVEL) -> Interval:
    """Return the confidence interval of a rate that was counted in several windows of time.

    If the events come in bursts, the counts of the windows vary more, and the interval is wider. With only a few
    windows and very long bursts, the interval is still too narrow.

    Source: P. McCullagh, J. A. Nelder, "Generalized Linear Models", 1989, section 4.5.

    Args:
        hits: number of events in each window.
        totals: number of trials in each window.
        level: confidence level, 0..1.

    Raises:
        ValueError: there are no trials, a window has more hits than trials, or the level is not between 0 and 1.
    """
    check_level(level)
    total, events = sum(totals), sum(hits)
    if total < 1 or any(not 0 <= count <= of for count, of in zip(hits, totals, strict=True)):
        raise ValueError("a rate needs at least one trial, and hits between 0 and the trials of each window")
    dispersion = _dispersion(hits, totals)
    ends = exact_ends(events / dispersion, total / dispersion, level)
    return Interval(*ends, level, "Clopper-Pearson at the effective count")


def _dispersion(hits: Sequence[int], totals: Sequence[int]) -> float:
    rate = sum(hits) / sum(totals)
    windows = [(count, of) for count, of in zip(hits, totals, strict=True) if of]
    if len(windows) < 2 or rate in {0.0, 1.0}:
        return 1.0
    chi_square = sum((count - of * rate) ** 2 / (of * rate * (1 - rate)) for count, of in windows)
    if len(windows) < _FEW_WINDOWS:
        return max(1.0, chi_square / (len(windows) - 1))
    # Twice a gamma variable of shape k / 2 is a chi-square variable with k degrees of freedom.
    return max(1.0, chi_square / (2 * gamma_quantile(1 - _DISPERSION_LEVEL, (len(windows) - 1) / 2)))

"""Compute how far above its baseline a signal of a healthy service may be: prediction intervals. Pure functions."""

from __future__ import annotations

import math
from typing import Final

from relab.incidents.detection.baseline import SignalBaseline

_MIN_DEGREES_OF_FREEDOM: Final = 4.0
"""With fewer degrees of freedom the quantile's expansion is not valid, and the band would be wider than any outage."""
_OF_EXCESS: Final = 0.25
"""The largest share of the excess latency before a repair that may remain after it, however wide the band is."""


def prediction_interval_width(usual: SignalBaseline, deviations: float, overlap: float) -> float:
    """Return how far above the baseline's centre the next poll of a healthy service may be, in the signal's unit.

    The width is t(p, n - 1) * s * sqrt(1 + 1 / n), with p = Phi(deviations) (Hahn and Meeker, Statistical Intervals,
    1991, section 4.7):

    - t: the quantile of Student's t-distribution; fewer than 4 degrees of freedom count as 4.
    - Phi: the standard normal distribution function.
    - n: the number of windows of time that do not overlap.
    - s: the larger of the baseline's `deviation` (estimated from all values) and `upper_deviation` (from high values).

    Args:
        usual: the baseline of the signal.
        deviations: how many standard deviations the width would be if the baseline were known exactly.
        overlap: the number of consecutive polls whose figures cover the same window; values below 1 count as 1.
    """
    # Polls whose figures cover the same window repeat each other, so they count once.
    count = max(usual.count / max(overlap, 1.0), 1.0)
    spread = max(usual.deviation, usual.upper_deviation)
    return _t_beyond(deviations, max(count - 1, _MIN_DEGREES_OF_FREEDOM)) * spread * math.sqrt(1 + 1 / count)


def recovery_bound(narrow: float, wide: float, before: float | None) -> float:
    """Return the highest value at which a signal counts as back to normal after a repair, in the signal's unit.

    - If `before` is above `narrow`, at least three quarters of the excess must be gone: the bound is `narrow` plus a
      quarter of (`before` - `narrow`), but at most `wide`.
    - Otherwise, the signal was not high before the repair, or its value is unknown, and the bound is `wide`.

    In both cases, the bound is at least `narrow`.

    Args:
        narrow: the bound that holds if the baseline is exact.
        wide: the higher bound that allows for a baseline that was computed from few polls.
        before: the value of the signal before the repair; None if it is unknown.
    """
    if before is not None and before > narrow:
        wide = min(wide, narrow + _OF_EXCESS * (before - narrow))
    return max(narrow, wide)


def _t_beyond(z: float, freedom: float) -> float:
    """Return the quantile of Student's t-distribution at the probability whose standard normal quantile is `z`.

    `freedom` is the number of degrees of freedom. The formula is an expansion (Abramowitz and Stegun, 26.7.5).
    """
    # An expansion, because loading a library with the exact function takes longer than a poll.
    terms = (
        z,
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
    )
    return sum(term / freedom**power for power, term in enumerate(terms))

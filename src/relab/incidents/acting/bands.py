"""How far above what is usual one more poll may come of a service with which nothing is wrong. Pure."""

from __future__ import annotations

import math
from typing import Final

from relab.incidents.detection.baseline import Usual

_LEAST_FREEDOM: Final = 4.0
"""Below it the expansion of the quantile holds no longer, and the band would be wider than any outage."""
_OF_EXCESS: Final = 0.25
"""A wide band is no reason to call a repair good: of what users waited too long before it, so much may be left at most."""


def prediction_width(usual: Usual, deviations: float, overlap: float) -> float:
    """Return the width of the upper prediction band, in the unit of the signal: up to there one more poll is as usual.

    w = t(p, n - 1) * s * sqrt(1 + 1 / n), the bound for one future observation of a normal distribution whose mean and
    deviation are estimated (Hahn and Meeker, Statistical Intervals, 1991, section 4.7), with p = Phi(deviations). Figures of
    polls that are told over one window repeat each other, so that n counts windows and not polls. s is the larger of the
    robust deviation and of the one that the upper tail tells.

    Args:
        usual: what was learnt.
        deviations: how many standard deviations are the bound where the baseline is known without error.
        overlap: polls of which the figures share a window, at least 1.
    """
    count = max(usual.count / max(overlap, 1.0), 1.0)
    spread = max(usual.deviation, usual.upper_deviation)
    return _t_beyond(deviations, max(count - 1, _LEAST_FREEDOM)) * spread * math.sqrt(1 + 1 / count)


def bounded_band(narrow: float, wide: float, before: float | None) -> float:
    """Return up to which value a signal counts as back to normal after a repair.

    Args:
        narrow: the bound of a baseline that is known well.
        wide: the bound of this baseline, uncertain as it is.
        before: the signal before the repair; None if it is not known.
    """
    if before is not None and before > narrow:
        wide = min(wide, narrow + _OF_EXCESS * (before - narrow))
    return max(narrow, wide)


def _t_beyond(z: float, freedom: float) -> float:
    """Return the quantile of Student's t that a normal value stays below as often as `z` (Abramowitz and Stegun, 26.7.5).

    By the expansion, for loading the exact function takes longer than a poll.
    """
    terms = (
        z,
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
    )
    return sum(term / freedom**power for power, term in enumerate(terms))

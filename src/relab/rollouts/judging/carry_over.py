"""Find a carry-over: windows whose figure depends on the flags of an earlier window.

A service that applies a change late still uses the flags of the previous window. If it is late by a whole window, many
windows of arm A show the effect of arm B, and a harmful change looks like an improvement.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from relab.rollouts.judging.effects import Floats, percent
from relab.rollouts.judging.linear_model import fitted
from relab.rollouts.judging.rollout_data import RolloutData, is_usable
from relab.rollouts.models import Arm, DataProblem
from relab.stats.distributions import t_quantile

CARRY_OVER_ALPHA: Final = 0.01
"""Two-sided significance level of both tests together (one for each lag). If a target applies changes at once and its
windows are independent with normal noise, at most 1 of 100 rollouts is a false positive, and fewer if the change has an
effect."""
_LEAST_SLOPE: Final = 0.005
"""The minimum effect of an earlier arm, as a logarithm (0.5 %). Rounding errors cause smaller effects."""
_LAGS: Final = ("Windows after arm B", "Windows two after arm B")
"""For each lag, 1 and 2 windows: the beginning of the sentence about the windows at this lag after arm B."""
_OWN: Final = 2
_COLUMNS: Final = 3 + len(_LAGS)
_LEAST_FREEDOM: Final = 4


def carry_over(data: RolloutData) -> DataProblem | None:
    """Return a problem if the figures of windows depend on the flags of an earlier window; None otherwise.

    A window is one measurement of an arm (set of flags). A linear model explains the logarithm of a window's figure by
    a linear trend, the window's own arm, and the arms of the two windows before it. The effect of an earlier arm is a
    problem if it meets three conditions:

    - it is significant;
    - it is at least 0.5 %;
    - it is at least half as large as the effect of the window's own arm.

    In these cases, the result is always None:

    - all arms are measured at the same time;
    - there are more than two arms;
    - there are fewer than 6 rounds (one window of each arm);
    - the order is `abab` or `abba`: a window's own arm then determines one of the arms before it.

    Source of the model: B. Jones and M. G. Kenward, "Design and Analysis of Cross-Over Trials", chapter 5.
    """
    slopes, errors, freedom = fitted(*_model(data))
    if freedom < _LEAST_FREEDOM:
        return None
    least = t_quantile(1 - CARRY_OVER_ALPHA / (2 * len(_LAGS)), freedom)
    for place, sentence in enumerate(_LAGS, _OWN + 1):
        slope = float(slopes[place])
        relevant = max(_LEAST_SLOPE, abs(float(slopes[_OWN])) / 2)
        if abs(slope) > least * float(errors[place]) and abs(slope) >= relevant:
            return DataProblem(
                f"{sentence} differ by {percent(slope):+.0f} % from those after arm A, so changes are applied late, or caches are "
                "cold after a change.",
                "Raise `warmup_sec`.",
            )
    return None


def _model(data: RolloutData) -> tuple[Floats, Floats]:
    """Return `(matrix, logarithms)` of the linear model, with one row for each usable window.

    `logarithms` has the logarithm of each window's judged figure. The columns of `matrix` are: 1, the position in time,
    the window's own arm, and the arms of the two windows before it (0 for A, 1 for B). The first two windows have no
    row, because a window before them is missing. There are no rows if the arms are measured at the same time, or are
    not exactly A and B.
    """
    windows = {window.index: window for window in data.every_window()}
    if data.is_live or {window.arm for window in windows.values()} != {Arm.A, Arm.B}:
        return np.empty((0, _COLUMNS)), np.empty(0)
    rows, figures = [], []
    for index, window in sorted(windows.items()):
        before = [windows.get(index - lag) for lag in range(1, len(_LAGS) + 1)]
        arms = [float(found.arm is Arm.B) for found in (window, *before) if found is not None]
        if is_usable(window.metric) and len(arms) == len(_LAGS) + 1:
            rows.append([1.0, float(index), *arms])
            figures.append(window.metric)
    return np.array(rows).reshape(-1, _COLUMNS), np.log(np.array(figures, dtype=float))

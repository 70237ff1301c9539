"""Find a carry-over: windows whose figure depends on the flags of an earlier window.

A service that applies a change late serves the flags of the previous window. If it is late by a whole window, arm A
often shows what arm B does, and a harmful change looks like an improvement.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from relab.rollouts.judging.effects import Floats, percent
from relab.rollouts.judging.rollout_data import RolloutData, is_usable
from relab.rollouts.models import Arm
from relab.stats.distributions import t_quantile

CARRY_OVER_ALPHA: Final = 0.01
"""Two-sided level of the tests of both lags together. A target that applies changes at once, and whose windows are
independent with normal noise, is suspected in at most 1 of 100 rollouts, and in fewer if the change has an effect."""
_LEAST_SLOPE: Final = 0.005
"""The least effect of an earlier arm, as a logarithm (0.5 %). The effects in identical windows are rounding errors."""
_LAGS: Final = ("Windows after arm B", "Windows two after arm B")
"""How far back an earlier window may be, in order, and the beginning of a sentence about it."""
_OWN: Final = 2
_COLUMNS: Final = 3 + len(_LAGS)
_LEAST_FREEDOM: Final = 4
_LEAST_EIGENVALUE: Final = 1e-9


def carry_over(data: RolloutData) -> str | None:
    """Return a sentence if the figures depend on the flags of an earlier window beyond chance; None otherwise.

    A window is one measurement of an arm (set of flags). A linear model explains the logarithm of a window's figure by a
    linear trend, the window's own arm, and the arms of the two windows before it. The effect of one of these two must be
    significant, at least 0.5 %, and at least half as large as that of the window's own arm.

    Nothing is found if all arms are measured at once, if there are more than two arms, in fewer than 6 rounds, or with the fixed
    orders `abab` and `abba`, in which a window's own arm determines one of the arms before it.

    Source of the model: B. Jones and M. G. Kenward, "Design and Analysis of Cross-Over Trials", chapter 5.
    """
    slopes, errors, freedom = _fitted(*_model(data))
    if freedom < _LEAST_FREEDOM:
        return None
    least = t_quantile(1 - CARRY_OVER_ALPHA / (2 * len(_LAGS)), freedom)
    for place, sentence in enumerate(_LAGS, _OWN + 1):
        slope = float(slopes[place])
        relevant = max(_LEAST_SLOPE, abs(float(slopes[_OWN])) / 2)
        if abs(slope) > least * float(errors[place]) and abs(slope) >= relevant:
            return (
                f"{sentence} differ by {percent(slope):+.0f} % from those after arm A, so changes are applied late. "
                "Raise `warmup_sec`."
            )
    return None


def _model(data: RolloutData) -> tuple[Floats, Floats]:
    """Return `(matrix, logarithms)` of the linear model, with one row for each usable window; no rows if it does not fit.

    The columns are: 1, the position in time, the window's own arm, and the arms of the two windows before it (0 for A, 1
    for B). The first windows have no row: a target that is cold at the start is not late.
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


def _fitted(matrix: Floats, logs: Floats) -> tuple[Floats, Floats, int]:
    """Fit a linear model by least squares.

    Returns:
        `(slopes, errors, freedom)`: the slope of each column with its standard error, and the degrees of freedom, which are 0 if
            the rows do not determine the slopes.
    """
    freedom, products = len(matrix) - _COLUMNS, matrix.T @ matrix
    nothing = np.zeros(_COLUMNS)
    if freedom <= 0 or np.linalg.eigvalsh(products)[0] < _LEAST_EIGENVALUE:
        return nothing, nothing, 0
    inverse = np.linalg.inv(products)
    slopes = inverse @ (matrix.T @ logs)
    residuals = logs - matrix @ slopes
    variance = float(residuals @ residuals) / freedom
    return slopes, np.sqrt(np.diag(inverse) * variance), freedom

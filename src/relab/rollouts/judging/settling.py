"""Find windows that begin before the service has settled after a change of flags.

After a change, caches may be cold and connections new. If `warmup_sec` is too short, the windows right after a change
measure this effect too, and a good change can look harmful.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from relab.rollouts.judging.effects import Floats, percent
from relab.rollouts.judging.linear_model import fitted
from relab.rollouts.judging.rollout_data import RolloutData, is_usable
from relab.rollouts.models import Arm
from relab.stats.distributions import t_quantile

_ALPHA: Final = 0.005
"""One-sided significance level."""
_LEAST_PCT: Final = 5.0
"""The minimum difference in percent; a smaller one is not reported."""
_LEAST_FREEDOM: Final = 4
_COLUMNS: Final = 5
_BOTH: Final = 4


def unsettled(data: RolloutData) -> tuple[str, ...]:
    """Return one sentence if figures right after a change of flags are significantly higher; else an empty tuple.

    The difference from the other windows must also be at least 5 %.

    A window is one measurement of an arm (set of flags). A linear model explains the logarithm of a window's figure by
    a linear trend, the window's own arm, the arm of the previous window, and the product of these two arms (0 for A,
    1 for B). The mean difference between windows right after a change and other windows is -1/2 times the slope of this
    product.

    The effect cannot be found if all arms are measured at the same time, or if there are more than two arms. It cannot
    be found with the fixed orders either: with `abab`, the flags change before every window; with `abba`, before every
    second window.
    """
    slopes, errors, freedom = fitted(*_model(data))
    if freedom < _LEAST_FREEDOM:
        return ()
    slower = -float(slopes[_BOTH]) / 2
    error = float(errors[_BOTH]) / 2
    if percent(slower) < _LEAST_PCT or slower <= t_quantile(1 - _ALPHA, freedom) * error:
        return ()
    sentence = (
        f"Windows right after a change of flags are {percent(slower):+.0f} % above the others, so the service had not "
        "settled when they began (cold caches, new connections). Raise `warmup_sec`."
    )
    return (sentence,)


def _model(data: RolloutData) -> tuple[Floats, Floats]:
    """Return `(matrix, logarithms)` of the linear model, with one row for each usable window except the first one.

    A window is usable if its judged figure was measured; `logarithms` are those of these figures. The columns of
    `matrix` are: 1, the position in time, the window's own arm, the arm of the window before it (0 for A, 1 for B), and
    the product of these two arms.
    """
    windows = {window.index: window for window in data.every_window()}
    rows, figures = [], []
    if not data.is_live and {window.arm for window in windows.values()} == {Arm.A, Arm.B}:
        for index, window in sorted(windows.items()):
            before = windows.get(index - 1)
            if before is not None and is_usable(window.metric):
                own, earlier = float(window.arm is Arm.B), float(before.arm is Arm.B)
                rows.append([1.0, float(index), own, earlier, own * earlier])
                figures.append(window.metric)
    return np.array(rows).reshape(-1, _COLUMNS), np.log(np.array(figures, dtype=float))

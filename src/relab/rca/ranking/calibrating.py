"""Fit curves that correct the predicted probabilities of problems, and choose the thresholds for finding a problem.

The curves are fitted to predictions for runs that were held out of the training. Predictions for the training runs
themselves would be too good.
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from relab.rca.ranking.model import BetaCurve

Table: TypeAlias = NDArray[np.float64]

_IDENTITY = np.array([1.0, 1.0, 0.0])
_BOUNDS = ((0.0, None), (0.0, None), (None, None))


def beta_curves(chances: Table, true: Table) -> list[BetaCurve]:
    """Fit one beta curve for each column of `chances`, a table of probabilities; the curve calibrates its column.

    `true` has the same shape as `chances`: 1 if the unit (step or tool call) of the row has the problem of the column,
    otherwise 0. The three weights of a curve have independent normal priors with variance 1. The means of the priors
    are the weights of the curve that changes nothing.
    """
    return [_beta_curve(chance, target) for chance, target in zip(chances.T, true.T, strict=True)]


def cross_calibrated(chances: Table, true: Table, fold: NDArray[np.int64]) -> Table:
    """Return calibrated probabilities. The curves for a row are fitted to the rows of all other folds.

    A curve converts a raw probability into a calibrated one; each column has its own curves.

    Args:
        chances: the raw probabilities of problems: one row for each unit (step or tool call); one column for any
            problem, then one for each kind.
        true: a table of the same shape: 1 if the unit has the problem, otherwise 0.
        fold: the number of the fold of each row.
    """
    calibrated = np.zeros_like(chances)
    for number in np.unique(fold):
        inside = fold == number
        for column, curve in enumerate(beta_curves(chances[~inside], true[~inside])):
            calibrated[inside, column] = curve.probability(chances[inside, column])
    return calibrated


def best_threshold(chances: Table, missed: int = 0) -> float:
    """Return the threshold with the greatest expected F1. An item is found if its probability reaches the threshold.

    `chances` has the probability that each item is true. `missed` is the number of true items that are not in
    `chances`, so that they cannot be found. The result is 1 if there are no items.
    """
    if not chances.size:
        return 1.0
    ranked = np.sort(chances, axis=None)[::-1]
    expected = 2 * np.cumsum(ranked) / (np.arange(1, ranked.size + 1) + ranked.sum() + missed)
    return float(ranked[expected.argmax()])


def _beta_curve(chances: Table, target: Table) -> BetaCurve:
    columns = BetaCurve.columns(chances)

    def loss(weights: Table) -> tuple[float, Table]:
        scores = columns @ weights
        value = np.logaddexp(0, scores).sum() - target @ scores + ((weights - _IDENTITY) ** 2).sum() / 2
        return float(value), columns.T @ (1 / (1 + np.exp(-scores)) - target) + weights - _IDENTITY

    weights = minimize(loss, _IDENTITY, jac=True, method="L-BFGS-B", bounds=_BOUNDS).x
    rise, fall, bias = (round(float(weight), 4) for weight in weights)
    return BetaCurve(rise=rise, fall=fall, bias=bias)

"""Calibrate the probabilities of problems: curves that correct them, and the thresholds that follow from them.

Each function gets what models said about runs that were held out of their fit, and what was true there.
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
    """Fit for each column of `chances` a beta curve to whether `true` is 1 there, with a normal prior of precision 1 at the identity."""
    return [_beta_curve(chance, target) for chance, target in zip(chances.T, true.T, strict=True)]


def cross_calibrated(chances: Table, true: Table, fold: NDArray[np.int64]) -> Table:
    """Return `chances` calibrated column by column, each row by the beta curves of the rows of the other folds."""
    calibrated = np.zeros_like(chances)
    for number in np.unique(fold):
        inside = fold == number
        for column, curve in enumerate(beta_curves(chances[~inside], true[~inside])):
            calibrated[inside, column] = curve.probability(chances[inside, column])
    return calibrated


def best_threshold(chances: Table, missed: int = 0) -> float:
    """Return the threshold with the greatest expected F1 if each item is true with its probability; 1 without items.

    `missed` is the number of further true items that nothing can find. The expected F1 is that of the expected counts.
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

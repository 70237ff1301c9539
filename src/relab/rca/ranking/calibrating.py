"""Calibrate the probabilities of problems: fit curves that correct the probabilities, and choose thresholds.

The probabilities are those that models gave for runs that were held out of their fit, because there they can be
compared with the labels of people.
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
    """Return a beta curve for each column of `chances`, fitted to whether the probabilities came true.

    `true` has the shape of `chances`, with 1 where the problem was there and 0 elsewhere. The weights of a curve have a
    normal prior with precision 1 around those of the identity.
    """
    return [_beta_curve(chance, target) for chance, target in zip(chances.T, true.T, strict=True)]


def cross_calibrated(chances: Table, true: Table, fold: NDArray[np.int64]) -> Table:
    """Return `chances` calibrated by beta curves, so that no row takes part in the fit of its own curves.

    Each column has curves of its own. The rows of a fold are calibrated by curves that are fitted to the rows of the
    other folds. `true` is as for `beta_curves`; `fold` has the number of the fold of each row.
    """
    calibrated = np.zeros_like(chances)
    for number in np.unique(fold):
        inside = fold == number
        for column, curve in enumerate(beta_curves(chances[~inside], true[~inside])):
            calibrated[inside, column] = curve.probability(chances[inside, column])
    return calibrated


def best_threshold(chances: Table, missed: int = 0) -> float:
    """Return the threshold whose expected F1 is greatest; items with at least this probability count as found.

    `chances` has the probability of each item that it is true, and `missed` is the number of further true items that
    nothing can find. The expected F1 is computed from the expected counts. Without items, return 1.
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

"""Fit the linear parts of ranking models: conditional logits and logistic regressions.

A conditional logit predicts which step of a run is the first mistake. A logistic regression predicts whether a step or
tool call has a problem.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from relab.rca.ranking.model import Linear

Table: TypeAlias = NDArray[np.float64]


def conditional_logit(tables: Sequence[Table], chosen: Sequence[int], penalty: float) -> Linear:
    """Fit weights so that the labelled row of each table gets a high probability (a softmax over the rows' scores).

    `tables` has one table for each run, and `chosen` the index of the labelled row of each table. `penalty` is the ridge
    penalty.
    """
    rows = np.vstack(tables)
    means, scales = _scaling(rows)
    scaled = (rows - means) / scales
    sizes = np.array([len(table) for table in tables])
    starts = np.cumsum(np.r_[0, sizes])[:-1]
    run = np.repeat(np.arange(len(tables)), sizes)
    picked = starts + np.array(chosen)

    def loss(weights: Table) -> tuple[float, Table]:
        scores = scaled @ weights
        top = np.maximum.reduceat(scores, starts)
        lifted = np.exp(scores - top[run])
        total = np.add.reduceat(lifted, starts)
        value = -(scores[picked] - top - np.log(total)).sum() + penalty * weights @ weights / 2
        slope = scaled.T @ (lifted / total[run]) - scaled[picked].sum(axis=0) + penalty * weights
        return float(value), slope

    return _linear(means, scales, minimise(loss, rows.shape[1]), 0.0)


def logit(rows: Table, target: Table, penalty: float) -> Linear:
    """Fit a logistic regression of `target` (0 or 1 per row), with a ridge penalty on all weights except the bias."""
    means, scales = _scaling(rows)
    scaled = np.hstack([(rows - means) / scales, np.ones((len(rows), 1))])
    ridge = np.r_[np.full(rows.shape[1], penalty), 0.0]

    def loss(weights: Table) -> tuple[float, Table]:
        scores = scaled @ weights
        value = np.logaddexp(0, scores).sum() - target @ scores + (ridge * weights**2).sum() / 2
        chances = 1 / (1 + np.exp(-np.clip(scores, -30, 30)))
        return float(value), scaled.T @ (chances - target) + ridge * weights

    weights = minimise(loss, scaled.shape[1])
    return _linear(means, scales, weights[:-1], float(weights[-1]))


def _scaling(rows: Table) -> tuple[Table, Table]:
    scales = rows.std(axis=0)
    return rows.mean(axis=0), np.where(scales < 1e-9, 1.0, scales)


def minimise(loss: Callable[[Table], tuple[float, Table]], size: int) -> Table:
    """Return the `size` weights with the least loss; `loss` returns the loss of weights and its gradient."""
    result: Table = minimize(loss, np.zeros(size), jac=True, method="L-BFGS-B", options={"maxiter": 200}).x
    return result


def _linear(means: Table, scales: Table, weights: Table, bias: float) -> Linear:
    def rounded(values: Table) -> tuple[float, ...]:
        return tuple(round(float(value), 5) for value in values)

    # A scale must not become 0.
    return Linear(
        means=rounded(means),
        scales=tuple(max(value, 1e-5) for value in rounded(scales)),
        weights=rounded(weights),
        bias=round(bias, 5),
    )

"""Fit linear models of the logarithms of windows' figures (a window is one measurement of a set of flags)."""

from __future__ import annotations

from typing import Final

import numpy as np

from relab.rollouts.judging.effects import Floats

_LEAST_EIGENVALUE: Final = 1e-9


def fitted(matrix: Floats, logs: Floats) -> tuple[Floats, Floats, int]:
    """Fit a linear model by least squares.

    Args:
        matrix: the explanatory variables, with one row for each window and one column for each slope.
        logs: the logarithm of the figure of each window.

    Returns:
        `(slopes, errors, freedom)`: the slope of each column with its standard error, and the degrees of freedom, which
            are 0 if the rows do not determine the slopes.
    """
    columns = matrix.shape[1]
    freedom, products = len(matrix) - columns, matrix.T @ matrix
    nothing = np.zeros(columns)
    if freedom <= 0 or np.linalg.eigvalsh(products)[0] < _LEAST_EIGENVALUE:
        return nothing, nothing, 0
    inverse = np.linalg.inv(products)
    slopes = inverse @ (matrix.T @ logs)
    residuals = logs - matrix @ slopes
    variance = float(residuals @ residuals) / freedom
    return slopes, np.sqrt(np.diag(inverse) * variance), freedom

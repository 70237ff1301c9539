"""Regression trees that rank: gradient boosting of small trees, in numpy."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, Field

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

DEPTH = 3
TREES = 60
BAGS = 3
"""How many boosted models are averaged for the steps of a run; a kind of problem has one."""

LEARNING_RATE = 0.1
BINS = 16
MIN_ROWS = 8
RIDGE = 3.0
SHARE_OF_RUNS = 0.8
SHARE_OF_FEATURES = 0.5
_NODES = 2**DEPTH - 1


class Trees(BaseModel):
    """Boosted regression trees of depth `DEPTH`; the score of a row is the sum of the leaves that it reaches.

    Attributes:
        features: for each tree, the column that each inner node reads; the nodes are in breadth-first order (root, left
            child, right child, and so on).
        cuts: for each tree, the limit of each inner node; a row goes right if its value is greater.
        leaves: for each tree, the value of each leaf, from left to right.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    features: list[list[int]] = Field(default=[])
    cuts: list[list[float]] = Field(default=[])
    leaves: list[list[float]] = Field(default=[])

    @cached_property
    def arrays(self) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]]:
        """The trees as arrays with one row per tree: `features`, `cuts` and `leaves`, which the class describes."""
        import numpy as np  # noqa: PLC0415 - a run of an unknown source needs no numpy

        return np.array(self.features), np.array(self.cuts), np.array(self.leaves)

    def scores(self, table: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the score of each row of `table`: the sum of the leaves that the row reaches."""
        import numpy as np  # noqa: PLC0415 - as above

        if not self.features:
            return np.zeros(len(table))
        features, cuts, leaves = self.arrays
        number = np.arange(len(features))
        node = np.zeros((len(table), len(features)), int)
        rows = np.arange(len(table))[:, None]
        for _ in range(DEPTH):
            is_greater = table[rows, features[number, node]] > cuts[number, node]
            node = 2 * node + 1 + is_greater
        total: NDArray[np.float64] = leaves[number, node - _NODES].sum(axis=1)
        return total


def boost(tables: list[NDArray[np.float64]], chosen: list[int]) -> Trees:
    """Fit trees that rank the row `chosen[i]` of `tables[i]` first; there is one table for each run.

    The loss is the listwise softmax loss. The score is the mean of `BAGS` models with the random seeds 0 to `BAGS` - 1.
    The seed decides on which runs and columns each tree is fitted.
    """
    import numpy as np  # noqa: PLC0415 - as above

    sizes = np.array([len(table) for table in tables])
    starts = np.cumsum(np.r_[0, sizes])[:-1]
    run = np.repeat(np.arange(len(tables)), sizes)
    target = np.zeros(len(run))
    target[starts + np.array(chosen)] = 1

    def shares(score: NDArray[np.float64]) -> NDArray[np.float64]:
        lifted = np.exp(score - np.maximum.reduceat(score, starts)[run])
        share: NDArray[np.float64] = lifted / np.add.reduceat(lifted, starts)[run]
        return share

    rows = np.vstack(tables)
    bags = [_boost(rows, run, target, shares, seed) for seed in range(BAGS)]
    return Trees(
        features=[each for bag in bags for each in bag.features],
        cuts=[each for bag in bags for each in bag.cuts],
        leaves=[[round(leaf / BAGS, 5) for leaf in each] for bag in bags for each in bag.leaves],
    )


def boost_chances(rows: NDArray[np.float64], run: NDArray[np.int64], target: NDArray[np.float64]) -> Trees:
    """Fit trees for a logistic regression of `target`, which is 0 or 1 for each row of `rows`.

    `run` has the index of the run of each row. For each tree, some runs are drawn at random, and the tree is fitted to
    all of their rows.
    """
    import numpy as np  # noqa: PLC0415 - as above

    def chances(score: NDArray[np.float64]) -> NDArray[np.float64]:
        chance: NDArray[np.float64] = 1 / (1 + np.exp(-score))
        return chance

    return _boost(rows, run, target, chances, seed=0)


def _boost(
    rows: NDArray[np.float64],
    run: NDArray[np.int64],
    target: NDArray[np.float64],
    predict: Callable[[NDArray[np.float64]], NDArray[np.float64]],
    seed: int,
) -> Trees:
    """Fit trees by Newton steps on the log loss: its negative gradient is `target` minus the predicted probability.

    Args:
        rows: the features of the units (steps or tool calls) of all runs, one row per unit.
        run: the index of the run of each row.
        target: the value to predict for each row, 0 or 1.
        predict: returns the probability of each row from the scores of all rows.
        seed: the random seed; it decides on which runs and columns each tree is fitted.
    """
    import numpy as np  # noqa: PLC0415 - as above

    draw = np.random.default_rng(seed)
    cuts = [np.unique(np.quantile(column, np.linspace(0, 1, BINS + 1)[1:-1])) for column in rows.T]
    codes = np.stack([np.searchsorted(cut, column) for cut, column in zip(cuts, rows.T, strict=True)], axis=1)
    score = np.zeros(len(rows))
    trees = Trees(features=[], cuts=[], leaves=[])
    for _ in range(TREES):
        share = predict(score)
        slope, curve = target - share, share * (1 - share) + 1e-6
        kept = (draw.random(int(run.max()) + 1) < SHARE_OF_RUNS)[run]
        columns = np.sort(draw.permutation(rows.shape[1])[: max(1, int(rows.shape[1] * SHARE_OF_FEATURES))])
        features, values, node = _grow(codes, cuts, columns, slope, curve, kept)
        leaves = np.zeros(_NODES + 1)
        for leaf in np.unique(node):
            inside = (node == leaf) & kept
            leaves[leaf - _NODES] = LEARNING_RATE * slope[inside].sum() / (curve[inside].sum() + RIDGE)
        score += leaves[node - _NODES]
        trees.features.append(features)
        trees.cuts.append(values)
        trees.leaves.append([round(float(leaf), 5) for leaf in leaves])
    return trees


def _grow(
    codes: NDArray[np.int64],
    cuts: list[NDArray[np.float64]],
    columns: NDArray[np.int64],
    slope: NDArray[np.float64],
    curve: NDArray[np.float64],
    kept: NDArray[np.bool_],
) -> tuple[list[int], list[float], NDArray[np.int64]]:
    """Grow one tree; return `(column of each inner node, cut of each inner node, leaf of each row)`.

    Args:
        codes: the bin of each value in the table of features: how many cuts of its column are below the value.
        cuts: for each column, the values at which a node can split it, ascending.
        columns: the columns that the tree can use.
        slope: the negative gradient of the loss for each row.
        curve: the second derivative of the loss for each row.
        kept: for each row, whether the tree is fitted to it.
    """
    import numpy as np  # noqa: PLC0415 - as above

    features, values = [0] * _NODES, [float(np.finfo(float).max)] * _NODES
    node = np.zeros(len(codes), int)
    for current in range(_NODES):
        inside = np.flatnonzero((node == current) & kept)
        goes_right = np.zeros(len(codes), bool)
        best = _best_cut(codes, columns, inside, slope, curve)
        if best is not None and best[1] < len(cuts[best[0]]):
            feature, place = best
            features[current], values[current] = feature, float(cuts[feature][place])
            goes_right = codes[:, feature] > place
        at = node == current
        node[at] = 2 * current + 1 + goes_right[at]
    return features, values, node


def _best_cut(
    codes: NDArray[np.int64],
    columns: NDArray[np.int64],
    inside: NDArray[np.int64],
    slope: NDArray[np.float64],
    curve: NDArray[np.float64],
) -> tuple[int, int] | None:
    """Return `(column, index of the cut)` of the split with the greatest gain; None if no split has a gain.

    `inside` are the indexes of the rows to split. For each row, `codes` has the bins of its values, and `slope` and
    `curve` are the negative first and the second derivative of the loss. `columns` are the columns that may be used.
    """
    import numpy as np  # noqa: PLC0415 - as above

    if len(inside) < 2 * MIN_ROWS:
        return None
    count = len(columns)
    code = (codes[inside][:, columns] + BINS * np.arange(count)).ravel()

    def below(values: NDArray[np.float64]) -> NDArray[np.float64]:
        sums = np.bincount(code, np.repeat(values, count), BINS * count)
        left: NDArray[np.float64] = sums.reshape(count, BINS).cumsum(axis=1)[:, :-1]
        return left

    slopes, curves, rows = below(slope[inside]), below(curve[inside]), below(np.ones(len(inside)))
    slope_sum, curve_sum = slope[inside].sum(), curve[inside].sum()
    gain = slopes**2 / (curves + RIDGE) + (slope_sum - slopes) ** 2 / (curve_sum - curves + RIDGE)
    gain -= slope_sum**2 / (curve_sum + RIDGE)
    gain[(rows < MIN_ROWS) | (len(inside) - rows < MIN_ROWS)] = -1.0
    best = int(gain.argmax())
    if gain.flat[best] <= 1e-6:
        return None
    return int(columns[best // (BINS - 1)]), best % (BINS - 1)

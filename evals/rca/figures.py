"""Figures of predictions against the truth, each with its n and a 95 % interval by bootstrap over groups."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from evals.rca.cases import Case
from evals.rca.predictions import Prediction

RESAMPLES = 2_000
SEED = 20_261_123
BINS = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 1.0)

Floats: TypeAlias = NDArray[np.float64]


@dataclass(frozen=True)
class Figure:
    """A share with its 95 % interval; all are NaN if n is 0.

    `n` is the number of cases, each counted once however many splits predicted it.
    """

    n: int
    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Bin:
    """One row of a reliability table: predictions with a probability from `low` to `high`, and how many are right."""

    low: float
    high: float
    n: int
    stated: float
    right: float


Pair: TypeAlias = tuple[Case, Prediction]


def share(pairs: Sequence[Pair], hit: Callable[[Case, Prediction], bool]) -> Figure:
    """Return the share of cases that are a hit, with an interval that resamples groups."""
    parts = np.array([[float(hit(case, found)), 1.0] for case, found in pairs]).reshape(-1, 2)
    return _ratio(parts, [case for case, _ in pairs])


def is_step(case: Case, found: Prediction) -> bool:
    """Return whether the first predicted step is the labelled one."""
    return found.steps[:1] == (case.truth.step_id,)


def is_within_one(case: Case, found: Prediction) -> bool:
    """Return whether the first predicted step is the labelled one or next to it."""
    order = [step["step_id"] for step in case.body["steps"]]
    if not found.steps or found.steps[0] not in order or case.truth.step_id not in order:
        return False
    return abs(order.index(found.steps[0]) - order.index(case.truth.step_id)) <= 1


def is_in_top_three(case: Case, found: Prediction) -> bool:
    """Return whether the labelled step is among the first three predicted ones."""
    return case.truth.step_id in found.steps[:3]


def is_agent(case: Case, found: Prediction) -> bool:
    """Return whether the predicted agent is the labelled one."""
    return found.agent is not None and found.agent == case.truth.agent


@dataclass(frozen=True)
class Location:
    """Micro-averaged precision, recall and F1 of located spans."""

    precision: Figure
    recall: Figure
    f1: Figure


def locate(pairs: Sequence[Pair], *, with_category: bool) -> Location:
    """Compare predicted with labelled spans, or with pairs of span and category."""
    counts = []
    for case, found in pairs:
        true = case.truth.spans if with_category else {span for span, _ in case.truth.spans}
        told = found.spans if with_category else {span for span, _ in found.spans}
        counts.append([len(true & told), len(told), len(true)])
    both, told_n, true_n = np.array(counts, float).reshape(-1, 3).T
    groups = [case for case, _ in pairs]
    return Location(
        precision=_ratio(np.column_stack([both, told_n]), groups),
        recall=_ratio(np.column_stack([both, true_n]), groups),
        f1=_ratio(np.column_stack([2 * both, told_n + true_n]), groups),
    )


def reliability(pairs: Sequence[Pair]) -> tuple[list[Bin], float]:
    """Return the reliability table of the predictions with a probability, and the expected calibration error."""
    stated = np.array([found.probability for _, found in pairs if found.probability is not None])
    right = np.array([float(is_step(case, found)) for case, found in pairs if found.probability is not None])
    table, error = [], 0.0
    for low, high in pairwise(BINS):
        inside = (stated >= low) & ((stated < high) | (high == BINS[-1]))
        if inside.any():
            row = Bin(low, high, int(inside.sum()), float(stated[inside].mean()), float(right[inside].mean()))
            table.append(row)
            error += row.n / len(stated) * abs(row.stated - row.right)
    return table, error


def calibration_error(pairs: Sequence[Pair], bins: int = 5) -> float:
    """Return the expected calibration error over `bins` bins of equally many predictions; 0 without probabilities."""
    stated = np.array([_stated(pair) for pair in pairs if pair[1].probability is not None])
    right = np.array([float(is_step(*pair)) for pair in pairs if pair[1].probability is not None])
    order = np.argsort(stated, kind="stable")
    parts = [part for part in np.array_split(order, bins) if len(part)]
    return sum(len(part) * abs(float(stated[part].mean() - right[part].mean())) for part in parts) / max(len(stated), 1)


def debiased_calibration_error(pairs: Sequence[Pair], bins: int = 5) -> float:
    """Return the root mean squared calibration error without the part that chance adds; 0 if chance explains all of it.

    A bin of n predictions, of which the share r is right, has a squared difference between r and the mean stated probability
    that is r (1 - r) / (n - 1) too large on average, which is subtracted (A. Kumar, P. Liang, T. Ma: Verified uncertainty
    calibration, 2019, section 4.1). The bins are `bins` equally full ones of each split, because only predictions of one split are of
    different cases; the squares are averaged over the splits. The n-th prediction for a case is taken to be of the n-th split.
    """
    seen: Counter[int] = Counter()
    splits: defaultdict[int, list[Pair]] = defaultdict(list)
    for pair in pairs:
        if pair[1].probability is not None:
            splits[seen[id(pair[0])]].append(pair)
        seen[id(pair[0])] += 1
    squares = []
    for split in splits.values():
        stated = np.array([_stated(pair) for pair in split])
        right = np.array([float(is_step(*pair)) for pair in split])
        for part in np.array_split(np.argsort(stated, kind="stable"), bins):
            if len(part) > 1:
                share_right = right[part].mean()
                chance = share_right * (1 - share_right) / (len(part) - 1)
                square = (stated[part].mean() - share_right) ** 2 - chance
                squares.append((len(part) / len(split) / len(splits), square))
    return math.sqrt(max(0.0, sum(weight * square for weight, square in squares)))


def macro_f1(pairs: Sequence[Pair]) -> float:
    """Return the mean over the labelled categories of the F1 of pairs of span and category."""
    scores = []
    for category in sorted({kind for case, _ in pairs for _, kind in case.truth.spans}):
        both = told = true = 0
        for case, found in pairs:
            real = {span for span, kind in case.truth.spans if kind == category}
            said = {span for span, kind in found.spans if kind == category}
            both, told, true = both + len(real & said), told + len(said), true + len(real)
        scores.append(2 * both / (told + true))
    return float(np.mean(scores)) if scores else float("nan")


def most_certain(pairs: Sequence[Pair]) -> list[Pair]:
    """Return the half of the predictions with the highest probability."""
    ranked = sorted((pair for pair in pairs if pair[1].probability is not None), key=lambda pair: -_stated(pair))
    return ranked[: (len(ranked) + 1) // 2]


def _stated(pair: Pair) -> float:
    return pair[1].probability or 0.0


def _ratio(parts: Floats, cases: Sequence[Case]) -> Figure:
    """Return sum(parts[:, 0]) / sum(parts[:, 1]) with the percentile interval of resampled groups of the cases."""
    count = len({id(case) for case in cases})
    if not len(parts) or not parts[:, 1].sum():
        return Figure(count, np.nan, np.nan, np.nan)
    _, number = np.unique([case.group for case in cases], return_inverse=True)
    sums = np.zeros((number.max() + 1, 2))
    np.add.at(sums, number, parts)
    draws = np.random.default_rng(SEED).multinomial(len(sums), np.full(len(sums), 1 / len(sums)), size=RESAMPLES)
    top, bottom = (draws @ sums).T
    drawn = top[bottom > 0] / bottom[bottom > 0]
    low, high = np.quantile(drawn, (0.025, 0.975))
    return Figure(count, float(sums[:, 0].sum() / sums[:, 1].sum()), float(low), float(high))

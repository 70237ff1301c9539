"""Fit the models of one source to labelled runs, with numpy and scipy; `training.train` is the function to call.

The penalties, the weight of the conditional logit, the thresholds and the calibration are chosen on runs that were held
out of the fit. All runs of one group (task) are held out together. The same data give the same model.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise, product

import numpy as np
from numpy.typing import NDArray

from relab.rca.errors import RankingModelError
from relab.rca.evidence import RunView
from relab.rca.ranking.calibrating import best_threshold, beta_curves, cross_calibrated
from relab.rca.ranking.features import MANNERS, NAMES
from relab.rca.ranking.logits import Table, conditional_logit, logit, minimise
from relab.rca.ranking.model import (
    Calibration,
    Columns,
    ProblemModel,
    SourceModel,
    StepModel,
    word_columns,
)
from relab.rca.ranking.sources import name_words, signature_of
from relab.rca.ranking.training_runs import MIN_RUNS, TrainingRun
from relab.rca.ranking.trees import BAGS, DEPTH, TREES, boost, boost_chances
from relab.rca.ranking.units import Unit, units_of

FOLDS = 5
PENALTIES = (10.0, 30.0, 100.0)
LINEAR_WEIGHTS = (0.25, 0.5)
"""The candidate weights of the conditional logit (the trees have the rest); the weight is chosen on held-out folds."""

PROBLEM_PENALTIES = (30.0, 100.0)
MAX_WORDS = 40
_PROBLEM_NAMES = tuple(name for name in NAMES if name not in MANNERS)
_STEP_MODEL = f"for steps a weighted mean of a conditional logit and of {BAGS} x {TREES} boosted trees of depth {DEPTH}"
_PROBLEM_MODEL = (
    f"for each kind of problem the mean of a logistic regression and of {TREES} boosted trees of depth {DEPTH}, "
    "calibrated by a beta curve"
)
MIN_SHARE_OF_WORD = 0.1
MIN_EXAMPLES = 8
"""A kind of problem with fewer examples is not learnt."""

_CUTS = tuple(round(0.1 + 0.025 * number, 3) for number in range(19))
_HIT_EDGES = (0.0, 0.2, 0.35, 0.5, 1.0)


@dataclass(frozen=True)
class Example:
    """A labelled run as numbers, to which models are fitted.

    Attributes:
        units: the innermost steps of the run, and its tool calls if the model is to read them.
        rows: one row of features for each unit.
        group: the task of the run. All runs of one task are held out together.
        chosen: the index of the row with the labelled first mistake; None if no unit has this label.
        kinds: for each row, the labelled kinds of problems of its unit.
    """

    units: tuple[Unit, ...]
    rows: Table
    group: str
    chosen: int | None
    kinds: tuple[frozenset[str], ...]


def examples_of(labelled: Sequence[TrainingRun], *, with_calls: bool) -> list[Example]:
    """Return the training example (features and label of each unit) of each labelled run.

    A unit is an innermost step or, if `with_calls` is true, also a tool call. Labels of anything else are ignored.
    """
    every = Columns(names=NAMES)
    found = []
    for item in labelled:
        units = units_of(RunView(item.run), with_calls=with_calls)
        ids = [unit.unit_id for unit in units]
        kinds = tuple(frozenset(kind for place, kind in item.problems if place == unit_id) for unit_id in ids)
        chosen = ids.index(item.step_id) if item.step_id in ids else None
        found.append(Example(units, every.table(units, item.run.answer), item.group, chosen, kinds))
    return found


def train_on(
    examples: Sequence[Example], *, source: str, agents: Sequence[str] = (), card: Mapping[str, str] | None = None
) -> SourceModel:
    """Return a model that is trained on examples (features and labels of runs) of the program with the name `source`.

    The model is for runs of `agents`, and for other runs that resemble the examples by the rules of `Signature`. `card`
    (facts about the data) is stored with the model.

    Raises:
        RankingModelError: fewer than `MIN_RUNS` examples have a labelled step, and fewer than `MIN_RUNS` have a
            labelled problem.
    """
    placed = [example for example in examples if example.chosen is not None]
    marked = [example for example in examples if any(example.kinds)]
    usable = [example for example in examples if example.chosen is not None or any(example.kinds)]
    if len(placed) < MIN_RUNS and len(marked) < MIN_RUNS:
        raise RankingModelError(
            f"{len(usable)} labelled runs are not enough for a model: label at least {MIN_RUNS} runs, "
            "each with the step that first went wrong."
        )
    parts = [_STEP_MODEL] * (len(placed) >= MIN_RUNS) + [_PROBLEM_MODEL] * (len(marked) >= MIN_RUNS)
    return SourceModel(
        source=source,
        card={**(card or {}), "model": "; ".join(parts)},
        runs=len(usable),
        signature=signature_of([example.units for example in usable], [example.group for example in usable], agents),
        reads_calls=any(unit.is_call for example in examples for unit in example.units),
        steps=_train_steps(placed) if _STEP_MODEL in parts else None,
        problems=_train_problems(examples) if _PROBLEM_MODEL in parts else None,
    )


def folds_of(groups: Sequence[str], count: int, seed: int = 0) -> NDArray[np.int64]:
    """Assign items to folds; return the number of each item's fold (0 to `count` - 1).

    `groups` has the group of each item. All items of a group get the same fold.
    """
    names = sorted(set(groups))
    order = np.random.default_rng(seed).permutation(len(names))
    fold = {name: int(order[number]) % count for number, name in enumerate(names)}
    return np.array([fold[group] for group in groups])


def _held_out(examples: Sequence[Example]) -> Iterator[tuple[list[int], list[int]]]:
    """Yield, for each fold, `(indexes of the examples for the fit, indexes of the held-out examples)`."""
    fold = folds_of([example.group for example in examples], FOLDS)
    for number in range(FOLDS):
        fitted, held = np.flatnonzero(fold != number).tolist(), np.flatnonzero(fold == number).tolist()
        if fitted and held:
            yield fitted, held


def _words(examples: Sequence[Example]) -> list[str]:
    counts: Counter[str] = Counter()
    for example in examples:
        counts.update(frozenset().union(*(name_words(unit) for unit in example.units)))
    # Words with equal counts are chosen by the alphabet, because the order of a set differs between processes.
    ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:MAX_WORDS]
    return sorted(word for word, count in ranked if count >= MIN_SHARE_OF_WORD * len(examples))


def _tables(examples: Sequence[Example], words: Sequence[str], names: Sequence[str] = NAMES) -> list[Table]:
    """Return a table for each example, with one row for each unit (step or tool call).

    The columns are the features `names`, then one for each word in `words`: 1 if a name of the unit has the word, or 0.
    """
    chosen = [NAMES.index(name) for name in names]
    tables = []
    for example in examples:
        has = [name_words(unit) for unit in example.units]
        own = np.array([[word in found for word in words] for found in has], float).reshape(len(has), len(words))
        tables.append(np.hstack([example.rows[:, chosen], own]))
    return tables


def _train_steps(examples: Sequence[Example]) -> StepModel:
    chosen = [example.chosen or 0 for example in examples]
    options = tuple(product(PENALTIES, LINEAR_WEIGHTS))
    shares: dict[tuple[float, float], list[Table]] = {option: [np.zeros(0)] * len(examples) for option in options}
    for fitted, held in _held_out(examples):
        models = _fit_steps([examples[index] for index in fitted], options)
        for option, model in models.items():
            for index, table in zip(held, _tables([examples[index] for index in held], _own(model)), strict=True):
                shares[option][index] = model.shares(table)
    loss = {
        option: -sum(math.log(max(item[row], 1e-9)) for item, row in zip(found, chosen, strict=True))
        for option, found in shares.items()
    }
    best = min(options, key=lambda option: loss[option])
    tops = np.array([item.max() for item in shares[best]])
    right = np.array([float(item.argmax() == row) for item, row in zip(shares[best], chosen, strict=True)])
    calibration = _calibrate(tops, right)
    (model,) = _fit_steps(examples, (best,)).values()
    median = float(np.median([calibration.probability(share) for share in tops]))
    return model.model_copy(update={"calibration": calibration, "stands_out": round(median, 3)})


def _own(model: StepModel | ProblemModel) -> list[str]:
    return [name.removeprefix("word:") for name in model.columns.names if name.startswith("word:")]


def _fit_steps(
    examples: Sequence[Example], options: Sequence[tuple[float, float]]
) -> dict[tuple[float, float], StepModel]:
    """Return an uncalibrated model for each of `options`, as `{(penalty, weight): model}`.

    The model predicts `weight` x conditional logit (fitted with `penalty`) + (1 - `weight`) x boosted decision trees.
    """
    words = _words(examples)
    tables, chosen = _tables(examples, words), [example.chosen or 0 for example in examples]
    trees = boost(tables, chosen)
    columns = Columns(names=(*NAMES, *word_columns(words)))
    identity = Calibration(bias=0.0, slope=1.0, hits=())
    linear = {penalty: conditional_logit(tables, chosen, penalty) for penalty in {option[0] for option in options}}
    return {
        (penalty, weight): StepModel(
            columns=columns,
            linear=linear[penalty],
            trees=trees,
            linear_weight=weight,
            calibration=identity,
            stands_out=0.0,
        )
        for penalty, weight in options
    }


def _calibrate(shares: Table, right: Table) -> Calibration:
    """Fit the logistic curve that converts the share of a guess into the probability that the guess is right.

    `shares` has the share (uncalibrated probability, 0 to 1) of the most likely guess of each run. `right` is 1 if this
    guess was right, otherwise 0.
    """
    odds = np.log(np.clip(shares, 1e-6, 1 - 1e-6) / np.clip(1 - shares, 1e-6, 1))

    def loss(curve: Table) -> tuple[float, Table]:
        scores = curve[0] + curve[1] * odds
        # The prior prefers the identity: bias 0, slope 1.
        value = np.logaddexp(0, scores).sum() - right @ scores + (curve[0] ** 2 + (curve[1] - 1) ** 2) / 2
        miss = 1 / (1 + np.exp(-scores)) - right
        return float(value), np.array([miss.sum() + curve[0], odds @ miss + curve[1] - 1])

    bias, slope = minimise(loss, 2)
    curve = Calibration(bias=round(float(bias), 4), slope=round(max(float(slope), 0.05), 4), hits=())
    stated = np.array([curve.probability(float(share)) for share in shares])
    hits = []
    for low, high in pairwise(_HIT_EDGES):
        inside = (stated >= low) & (stated < high)
        hits.append((low, high, int(right[inside].sum()), int(inside.sum())))
    return curve.model_copy(update={"hits": tuple(hits)})


def _train_problems(examples: Sequence[Example]) -> ProblemModel:
    counts = Counter(kind for example in examples for kinds in example.kinds for kind in kinds)
    names = sorted(kind for kind, count in counts.items() if count >= MIN_EXAMPLES)
    true = [kinds for example in examples for kinds in example.kinds]
    chances: dict[float, list[Table]] = {penalty: [np.zeros((0, 0))] * len(examples) for penalty in PROBLEM_PENALTIES}
    fold = np.zeros(len(examples), int)
    for number, (fitted, held) in enumerate(_held_out(examples)):
        fold[held] = number
        models = _fit_problems([examples[index] for index in fitted], names, PROBLEM_PENALTIES)
        for penalty, model in models.items():
            tables_of_held = _tables([examples[index] for index in held], _own(model), _PROBLEM_NAMES)
            for index, table in zip(held, tables_of_held, strict=True):
                chances[penalty][index] = np.column_stack([model.chances(table), model.kind_chances(table)])
    found = {penalty: np.vstack(tables) for penalty, tables in chances.items()}
    best = max(PROBLEM_PENALTIES, key=lambda penalty: _best_f1(found[penalty], names, true))
    (model,) = _fit_problems(examples, names, (best,)).values()
    return _calibrated(model, found[best], true, np.repeat(fold, [len(example.units) for example in examples]))


def _calibrated(
    model: ProblemModel, found: Table, true: Sequence[frozenset[str]], fold: NDArray[np.int64]
) -> ProblemModel:
    """Return a copy of the model with calibration curves, and with those thresholds that give the greatest expected F1.

    Args:
        model: the uncalibrated model, fitted to all examples.
        found: probabilities that models predicted for held-out runs: one row for each unit (step or tool call); one
            column for any problem, then one for each kind.
        true: the labelled kinds of problems of each unit.
        fold: for each unit, the number of its fold. The thresholds are found with curves that were fitted to other folds.
    """
    names = list(model.kinds)
    is_true = np.array([[bool(kinds), *(name in kinds for name in names)] for kinds in true], float)
    any_curve, *kind_curves = beta_curves(found, is_true)
    calibrated = cross_calibrated(found, is_true, fold)
    missed = sum(len(kinds.difference(names)) for kinds in true)
    return model.model_copy(
        update={
            "any_curve": any_curve,
            "kind_curves": dict(zip(names, kind_curves, strict=True)),
            "from_probability": round(best_threshold(calibrated[:, 0]), 4),
            "kinds_from": round(best_threshold(calibrated[:, 1:], missed), 4),
            "kinds_find": True,
        }
    )


def _fit_problems(
    examples: Sequence[Example], names: Sequence[str], penalties: Sequence[float]
) -> dict[float, ProblemModel]:
    """Fit models that find problems of steps and calls; return `{penalty of the logistic regressions: model}`.

    `names` are the kinds of problems. The probabilities of these models are not calibrated, and all thresholds are 0.5.
    """
    words = _words(examples)
    rows = np.vstack(_tables(examples, words, _PROBLEM_NAMES))
    run = np.repeat(np.arange(len(examples)), [len(example.units) for example in examples])
    true = [kinds for example in examples for kinds in example.kinds]
    any_true = np.array([float(bool(kinds)) for kinds in true])
    kind_true = {name: np.array([float(name in kinds) for kinds in true]) for name in names}
    any_trees = boost_chances(rows, run, any_true)
    kind_trees = {name: boost_chances(rows, run, target) for name, target in kind_true.items()}
    return {
        penalty: ProblemModel(
            columns=Columns(names=(*_PROBLEM_NAMES, *word_columns(words))),
            any=logit(rows, any_true, penalty),
            kinds={name: logit(rows, target, penalty) for name, target in kind_true.items()},
            any_trees=any_trees,
            kind_trees=kind_trees,
            from_probability=0.5,
            kinds_from=0.5,
        )
        for penalty in penalties
    }


def _best_f1(found: Table, names: Sequence[str], true: Sequence[frozenset[str]]) -> float:
    """Return how well a model finds problems, as the sum of two F1 scores (0 to 2).

    The first score is for finding the units (steps and tool calls) with a problem. The second is for naming the kinds:
    it compares pairs `(unit, kind)`, and kinds are predicted only for the units that were found. Each score is the
    best one over the thresholds in `_CUTS`.

    Args:
        found: one row for each unit: the probability of any problem, then that of each kind.
        names: the kinds, in the order of the columns.
        true: the true kinds of each unit.
    """
    is_true = np.array([bool(kinds) for kinds in true])
    any_f1, cut = max((_f1((found[:, 0] >= cut) & is_true, found[:, 0] >= cut, is_true), cut) for cut in _CUTS)
    flagged, kinds = found[:, :1] >= cut, found[:, 1:]
    is_pair = np.array([[name in each for name in names] for each in true])
    missed = sum(len(each.difference(names)) for each in true)
    top = kinds == kinds.max(axis=1, keepdims=True)
    pair_f1 = []
    for cut in _CUTS:
        told = flagged & ((kinds >= cut) | (top & ~(kinds >= cut).any(axis=1, keepdims=True)))
        pair_f1.append(float(2 * (told & is_pair).sum() / max(told.sum() + is_pair.sum() + missed, 1)))
    return any_f1 + max(pair_f1)


def _f1(both: NDArray[np.bool_], told: NDArray[np.bool_], true: NDArray[np.bool_]) -> float:
    return float(2 * both.sum() / max(told.sum() + true.sum(), 1))

"""Trained ranking models: the document in which they are stored (an artefact), and their predictions for a run.

An artefact is one JSON document with a `SourceModel` for each source (a program that makes runs). It names the features
that its models read. An artefact of an older version can be read as long as all of these features still exist.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Self

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from relab.core.validation import plain_message
from relab.rca.errors import RankingModelError
from relab.rca.ranking.features import NAMES, WORDS, features_of
from relab.rca.ranking.sources import Signature, name_words
from relab.rca.ranking.trees import Trees
from relab.rca.ranking.units import Unit

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

FORMAT = 1
_WORD = "word:"
_MIN_PROBABILITY = 1e-6


class Artefact(BaseModel):
    """Immutable base class of `RankingModels` and of all of its parts."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Columns(Artefact):
    """The columns of the table that a model reads.

    A name in `names` is the name of a feature (`features.NAMES`), or `word:` followed by a word. Each row of the table
    is a unit (step or tool call). The column of a word is 1 if the name of the unit's agent, step or tool contains the
    word.
    """

    names: tuple[str, ...]

    @model_validator(mode="after")
    def _are_known(self) -> Self:
        unknown = [name for name in self.names if name not in WORDS and not name.startswith(_WORD)]
        if unknown:
            raise ValueError(f"unknown features: {', '.join(unknown[:5])}; train the model again with this version")
        return self

    def table(self, units: Sequence[Unit], answer: str | None) -> NDArray[np.float64]:
        """Return a table with one row for each unit (step or tool call) and the columns that the field `names` lists.

        `answer` is the final answer of the run; None if it is not known.
        """
        import numpy as np  # noqa: PLC0415 - a run of an unknown source needs no numpy

        general = [NAMES.index(name) for name in self.names if name in WORDS]
        own = [name.removeprefix(_WORD) for name in self.names if name not in WORDS]
        found = [name_words(unit) for unit in units]
        words = np.array([[word in has for word in own] for has in found], float).reshape(len(units), len(own))
        return np.hstack([features_of(units, answer)[:, general], words])


class Linear(Artefact):
    """A linear model: a weighted sum of standardised features, plus `bias`.

    The means, scales and weights are in the order of the columns (`Columns.names`).
    """

    means: tuple[float, ...]
    scales: tuple[float, ...]
    weights: tuple[float, ...]
    bias: float = 0.0

    def scores(self, table: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the score of each row of `table`."""
        import numpy as np  # noqa: PLC0415 - as above

        scores: NDArray[np.float64] = (table - np.array(self.means)) / np.array(self.scales) @ np.array(self.weights)
        return scores + self.bias


class Calibration(Artefact):
    """Converts the share of a step into the probability that this step went wrong first.

    The share is the uncalibrated probability of the step; the shares of all steps of a run add up to 1. The probability
    is a logistic function of the log odds of the share.

    `hits` has a row `(from, to, right, all)` for each range of probabilities. `all` is the number of test runs (held out
    of the training) whose most likely guess had a probability in this range. In `right` of these runs, that guess was
    right.
    """

    bias: float
    slope: float
    hits: tuple[tuple[float, float, int, int], ...]

    def probability(self, share: float) -> float:
        """Convert the share of a step into the calibrated probability that this step went wrong first.

        The share is the step's uncalibrated probability (`StepModel.shares`).
        """
        import math  # noqa: PLC0415 - only here

        odds = math.log(max(share, _MIN_PROBABILITY) / max(1 - share, _MIN_PROBABILITY))
        return 1 / (1 + math.exp(-(self.bias + self.slope * odds)))

    def hit_rate(self, probability: float) -> tuple[int, int]:
        """Return `(right, all)`: how often guesses with about this probability were right in test runs.

        `all` is the number of test runs (held out of the training) whose most likely guess had a probability in the
        same range as `probability`. `right` is the number of these runs in which that guess was right. Return `(0, 0)`
        if no range contains the probability.
        """
        for low, high, right, count in self.hits:
            if low <= probability < high:
                return right, count
        return 0, 0


class BetaCurve(Artefact):
    """Calibrates a probability p: the result is the logistic function of `rise` ln p - `fall` ln (1 - p) + `bias`.

    `rise` and `fall` are not negative. If `rise` and `fall` are 1 and `bias` is 0, p does not change. Source: M. Kull,
    T. Silva Filho, P. Flach: Beta calibration, 2017.
    """

    rise: float
    fall: float
    bias: float

    def probability(self, chance: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the calibrated probability for each probability in `chance`."""
        return _logistic(self.columns(chance) @ (self.rise, self.fall, self.bias))

    @staticmethod
    def columns(chance: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return a table with the row `(ln p, -ln (1 - p), 1)` for each probability p in `chance`.

        `rise`, `fall` and `bias` are the weights of these columns.
        """
        import numpy as np  # noqa: PLC0415 - as above

        inside = np.clip(chance, _MIN_PROBABILITY, 1 - _MIN_PROBABILITY)
        return np.column_stack([np.log(inside), -np.log(1 - inside), np.ones(len(inside))])


class StepModel(Artefact):
    """Ranks the steps of a run by the probability that they are the first mistake.

    The probability of a step is a weighted mean of the results of a conditional logit and of boosted trees, calibrated.

    Attributes:
        columns: the columns of the table that the model reads.
        linear: the conditional logit.
        trees: the boosted trees.
        linear_weight: the weight of the conditional logit, from 0 to 1; 0.5 in older artefacts.
        calibration: converts the weighted mean of a step (see `shares`) into a calibrated probability.
        stands_out: the minimum probability of the most likely step. If it is lower, a report says that no step
            stands out. This minimum is a median: of the probabilities of the most likely steps in runs that were held
            out of the training.
    """

    columns: Columns
    linear: Linear
    trees: Trees
    linear_weight: float = 0.5
    calibration: Calibration
    stands_out: float

    def shares(self, table: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return for each row of `table` how likely its step is the first mistake, before calibration.

        The rows are the steps of one run. Their shares add up to 1.
        """
        linear, trees = _softmax(self.linear.scores(table)), _softmax(self.trees.scores(table))
        both: NDArray[np.float64] = self.linear_weight * linear + (1 - self.linear_weight) * trees
        return both

    def reasons(self, table: NDArray[np.float64], index: int, most: int) -> tuple[str, ...]:
        """Return the names of at most `most` features that raise the score of the row `index`, the strongest first.

        `table` has a row for each step of a run and a column for each feature.
        """
        import numpy as np  # noqa: PLC0415 - as above

        # A feature counts if its value is above the mean, and if the mean instead would lower the score.
        mean = table.mean(axis=0)
        changed = np.repeat(table[index : index + 1], len(mean), axis=0)
        np.fill_diagonal(changed, mean)
        own = table[index : index + 1]
        weight = self.linear_weight
        gain = weight * (self.linear.scores(own) - self.linear.scores(changed))
        gain += (1 - weight) * (self.trees.scores(own) - self.trees.scores(changed))
        gain[table[index] <= mean] = 0
        order = np.argsort(-gain, kind="stable")[:most]
        return tuple(self.columns.names[number] for number in order if gain[number] > 0)


class ProblemModel(Artefact):
    """Finds the units (steps and tool calls) of a run that have a problem, and names the kinds of their problems.

    Each probability is the mean of a logistic regression and of boosted trees, calibrated by a beta curve.

    Attributes:
        columns: the columns of the table that the model reads.
        any: the logistic regression for the probability of any problem.
        any_trees: the trees for the same probability; None in older artefacts.
        any_curve: the beta curve for the same probability; None in older artefacts.
        kinds: `{kind of problem: logistic regression}`.
        kind_trees: `{kind of problem: trees}`; empty in older artefacts.
        kind_curves: `{kind of problem: curve}`; empty in older artefacts.
        from_probability: the threshold for any problem. A unit whose probability of any problem reaches it has a
            problem.
        kinds_from: the threshold for a kind. A unit with a problem has all kinds whose probability reaches it. If no
            kind reaches it, the unit has only its most probable kind.
        kinds_find: if true, a unit in which a kind reaches `kinds_from` has a problem, even if it does not reach
            `from_probability`. False in older artefacts.
    """

    columns: Columns
    any: Linear
    kinds: dict[str, Linear]
    any_trees: Trees | None = None
    kind_trees: dict[str, Trees] = {}
    any_curve: BetaCurve | None = None
    kind_curves: dict[str, BetaCurve] = {}
    from_probability: float
    kinds_from: float
    kinds_find: bool = False

    def chances(self, table: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the probability that a unit (step or tool call) has a problem, for each unit of a run.

        `table` has a row of features for each unit.
        """
        return _mean_chance(table, self.any, self.any_trees, self.any_curve)

    def kind_chances(self, table: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the probability of each kind of problem for each row of `table`.

        The result has one column per kind, in the order of `kinds`.
        """
        import numpy as np  # noqa: PLC0415 - as above

        return np.stack(
            [
                _mean_chance(table, linear, self.kind_trees.get(name), self.kind_curves.get(name))
                for name, linear in self.kinds.items()
            ],
            axis=1,
        )

    def judge(self, table: NDArray[np.float64]) -> tuple[list[tuple[int, tuple[str, ...]]], list[tuple[float, str]]]:
        """Return `(found, predictions)` for the rows of `table` (the output of `Columns.table`, a row for each unit).

        `found` has `(index of the row, kinds of its problems)` for the rows that have a problem. `predictions` has
        `(probability of any problem, most probable kind)` for all rows.

        Raises:
            ValueError: the model has no `kinds`.
        """
        import numpy as np  # noqa: PLC0415 - as above

        names = list(self.kinds)
        any_chances, chances = self.chances(table), self.kind_chances(table)
        found = []
        is_found = any_chances >= self.from_probability
        if self.kinds_find:
            is_found |= (chances >= self.kinds_from).any(axis=1)
        for row in np.flatnonzero(is_found):
            order = np.argsort(-chances[row], kind="stable")
            kinds = [names[number] for number in order if chances[row, number] >= self.kinds_from]
            found.append((int(row), tuple(kinds or [names[order[0]]])))
        best = chances.argmax(axis=1)
        return found, [(float(chance), names[kind]) for chance, kind in zip(any_chances, best, strict=True)]


class SourceModel(Artefact):
    """The trained models for one source (a program that makes runs).

    Attributes:
        source: the name of the source, for people.
        card: facts about the models, by name: the training data and its licence, the people who labelled it, and, under
            the name `model`, the kinds of models, such as a logistic regression.
        runs: the number of training runs with a labelled step or problem.
        signature: the names and fixed texts by which runs of the source are recognised.
        reads_calls: whether the models read tool calls as well as steps.
        steps: the model that ranks steps; None if too few steps were labelled.
        problems: the model that finds problems; None if too few problems were labelled.
    """

    source: str
    card: dict[str, str]
    runs: int
    signature: Signature
    reads_calls: bool
    steps: StepModel | None = None
    problems: ProblemModel | None = None


class RankingModels(Artefact):
    """The models of several sources (programs that make runs), which are stored as one JSON text (an artefact)."""

    format: int = FORMAT
    sources: tuple[SourceModel, ...] = ()

    @classmethod
    def load(cls, text: str | bytes) -> Self:
        """Read models from their JSON.

        Raises:
            RankingModelError: the text is not JSON, does not have the format of an artefact, or names an unknown
                feature.
        """
        try:
            models = cls.model_validate_json(text)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            place = ".".join(str(part) for part in first["loc"]) or "the document"
            raise RankingModelError(
                f"The ranking model cannot be read: {place}: {plain_message(first['msg'])}."
            ) from error
        if models.format != FORMAT:
            raise RankingModelError(f"The ranking model has format {models.format}; this version reads {FORMAT}.")
        return models

    def with_source(self, model: SourceModel) -> RankingModels:
        """Return these models with `model` as the first one; it replaces a model for the same source (program)."""
        others = tuple(item for item in self.sources if item.source != model.source)
        return RankingModels(sources=(model, *others))

    def dump(self) -> str:
        """Return the models as the JSON that `load` reads."""
        return json.dumps(self.model_dump(mode="json"), ensure_ascii=False) + "\n"


@cache
def shipped_models() -> RankingModels:
    """Return the models that are part of relab. The command `python -m evals.rca.train` made them."""
    return RankingModels.load(files("relab.rca.ranking").joinpath("shipped.json").read_bytes())


def describe(feature: str) -> str:
    """Return what a report says about a step because of a feature; `feature` is a name of `Columns.names`."""
    return WORDS[feature] if feature in WORDS else f"it belongs to {feature.removeprefix(_WORD)!r}"


def word_columns(words: Sequence[str]) -> tuple[str, ...]:
    """Return the names of the columns for `words`.

    A column states whether the names of a unit (step or tool call) contain the word.
    """
    return tuple(_WORD + word for word in words)


def _softmax(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    import numpy as np  # noqa: PLC0415 - as above

    lifted = np.exp(scores - scores.max())
    shares: NDArray[np.float64] = lifted / lifted.sum()
    return shares


def _mean_chance(
    table: NDArray[np.float64], linear: Linear, trees: Trees | None, curve: BetaCurve | None
) -> NDArray[np.float64]:
    chance = _logistic(linear.scores(table))
    if trees is not None:
        chance = (chance + _logistic(trees.scores(table))) / 2
    return chance if curve is None else curve.probability(chance)


def _logistic(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    import numpy as np  # noqa: PLC0415 - as above

    chances: NDArray[np.float64] = 1 / (1 + np.exp(-np.clip(scores, -30, 30)))
    return chances

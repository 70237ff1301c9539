"""Trained models of ranking: their artefact (one JSON document), and what they say about a run.

An artefact has one model for each source. It names its features, so that one of an older version is still read as long as
all of its features exist.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Self

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

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
    """Base of the immutable parts of an artefact."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Columns(Artefact):
    """The features that a model reads: names of `features.NAMES`, or `word:` and a word in the names of a unit."""

    names: tuple[str, ...]

    @model_validator(mode="after")
    def _are_known(self) -> Self:
        unknown = [name for name in self.names if name not in WORDS and not name.startswith(_WORD)]
        if unknown:
            raise ValueError(f"unknown features: {', '.join(unknown[:5])}; train the model again with this version")
        return self

    def table(self, units: Sequence[Unit], answer: str | None) -> NDArray[np.float64]:
        """Return one row for each unit and one column for each name; `answer` is the final answer of the run, if known."""
        import numpy as np  # noqa: PLC0415 - a run of an unknown source needs no numpy

        general = [NAMES.index(name) for name in self.names if name in WORDS]
        own = [name.removeprefix(_WORD) for name in self.names if name not in WORDS]
        found = [name_words(unit) for unit in units]
        words = np.array([[word in has for word in own] for has in found], float).reshape(len(units), len(own))
        return np.hstack([features_of(units, answer)[:, general], words])


class Linear(Artefact):
    """A weighted sum of standardised features, in the order of `Columns.names`."""

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
    """Turns the share that a model gives to a step into the probability that it is right: a logistic curve of its log odds.

    `hits` has one row for each range of probabilities: (from, to, right guesses, guesses) among runs that were held out.
    """

    bias: float
    slope: float
    hits: tuple[tuple[float, float, int, int], ...]

    def probability(self, share: float) -> float:
        """Return the probability that a step with this share (0 to 1) is the one that first went wrong."""
        import math  # noqa: PLC0415 - only here

        odds = math.log(max(share, _MIN_PROBABILITY) / max(1 - share, _MIN_PROBABILITY))
        return 1 / (1 + math.exp(-(self.bias + self.slope * odds)))

    def hit_rate(self, probability: float) -> tuple[int, int]:
        """Return (right, all) of the held-out first guesses whose probability was in the same range."""
        for low, high, right, count in self.hits:
            if low <= probability < high:
                return right, count
        return 0, 0


class BetaCurve(Artefact):
    """Calibrates a probability p: a logistic curve of `rise` ln p - `fall` ln (1 - p) + `bias`, neither weight negative.

    With 1, 1 and 0 it is the identity (M. Kull, T. Silva Filho, P. Flach: Beta calibration, 2017).
    """

    rise: float
    fall: float
    bias: float

    def probability(self, chance: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the calibrated probability of each of `chance`."""
        return _logistic(self.columns(chance) @ (self.rise, self.fall, self.bias))

    @staticmethod
    def columns(chance: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return what the weights `rise`, `fall` and `bias` belong to: one row for each of `chance`."""
        import numpy as np  # noqa: PLC0415 - as above

        inside = np.clip(chance, _MIN_PROBABILITY, 1 - _MIN_PROBABILITY)
        return np.column_stack([np.log(inside), -np.log(1 - inside), np.ones(len(inside))])


class StepModel(Artefact):
    """Ranks the steps of a run by how likely each is the first mistake: a weighted mean of a conditional logit and of boosted trees.

    Attributes:
        linear_weight: the weight of the conditional logit, from 0 to 1; artefacts of older versions have none, and mean both equally.
        stands_out: the probability from which on the first step is singled out; below, half of the held-out runs lie.
    """

    columns: Columns
    linear: Linear
    trees: Trees
    linear_weight: float = 0.5
    calibration: Calibration
    stands_out: float

    def shares(self, table: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the share of each row of `table`; the shares of a run add up to 1."""
        linear, trees = _softmax(self.linear.scores(table)), _softmax(self.trees.scores(table))
        both: NDArray[np.float64] = self.linear_weight * linear + (1 - self.linear_weight) * trees
        return both

    def reasons(self, table: NDArray[np.float64], index: int, most: int) -> tuple[str, ...]:
        """Return the names of at most `most` features that raise the row `index` above the others, the strongest first.

        `table` has a row for each unit of a run and a column for each feature. A feature is named if its value is above
        the mean of its column, and if the score of the row falls with the mean in its place.
        """
        import numpy as np  # noqa: PLC0415 - as above

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
    """Finds the units of a run that have a problem, and names its kind.

    A unit has a problem if its probability is at least `from_probability`, or that of a kind at least `kinds_from`; its kinds are
    those of at least `kinds_from`, or the most probable one. Each probability is the calibrated mean of a logistic regression and of boosted trees.

    Attributes:
        any: finds a problem of any kind; `any_trees` are its trees, `any_curve` calibrates their mean.
        kinds: one for each kind; `kind_trees` are their trees, `kind_curves` calibrate their means. Artefacts of older versions
            have no trees or no curves.
        kinds_find: whether a unit has a problem by the probability of a kind alone; in artefacts of older versions it has not.
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
        """Return the probability that each row of `table` has a problem."""
        return _mean_chance(table, self.any, self.any_trees, self.any_curve)

    def kind_chances(self, table: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the probability that each row of `table` has a problem of each kind, in the order of `kinds`."""
        import numpy as np  # noqa: PLC0415 - as above

        return np.stack(
            [
                _mean_chance(table, linear, self.kind_trees.get(name), self.kind_curves.get(name))
                for name, linear in self.kinds.items()
            ],
            axis=1,
        )

    def judge(self, table: NDArray[np.float64]) -> tuple[list[tuple[int, tuple[str, ...]]], list[tuple[float, str]]]:
        """Return (row, kinds of problems) for each row of `table` that has a problem, and for every row (probability, most probable kind).

        The model must have a kind.
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
    """The models of one source.

    Attributes:
        source: its name, for people.
        card: its data card: the training data, who labelled them, their licence, and under `model` the kinds of models that it combines.
        runs: the number of training runs with a labelled step or problem.
        reads_calls: whether tool calls are units of their own.
    """

    source: str
    card: dict[str, str]
    runs: int
    signature: Signature
    reads_calls: bool
    steps: StepModel | None = None
    problems: ProblemModel | None = None


class RankingModels(Artefact):
    """The models of several sources: the content of an artefact."""

    format: int = FORMAT
    sources: tuple[SourceModel, ...] = ()

    @classmethod
    def load(cls, text: str | bytes) -> Self:
        """Read an artefact.

        Raises:
            RankingModelError: it is not JSON, has another format, or names a feature that this version does not know.
        """
        try:
            models = cls.model_validate_json(text)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            place = ".".join(str(part) for part in first["loc"]) or "the document"
            raise RankingModelError(f"The ranking model cannot be read: {place}: {first['msg']}.") from error
        if models.format != FORMAT:
            raise RankingModelError(f"The ranking model has format {models.format}; this version reads {FORMAT}.")
        return models

    def with_source(self, model: SourceModel) -> RankingModels:
        """Return these models with `model` before the others, in place of one with the same source name."""
        others = tuple(item for item in self.sources if item.source != model.source)
        return RankingModels(sources=(model, *others))

    def dump(self) -> str:
        """Return the artefact as JSON, which `load` reads."""
        return json.dumps(self.model_dump(mode="json"), ensure_ascii=False) + "\n"


@cache
def shipped_models() -> RankingModels:
    """Return the models that relab ships, which `python -m evals.rca.train` made."""
    return RankingModels.load(files("relab.rca.ranking").joinpath("shipped.json").read_bytes())


def describe(feature: str) -> str:
    """Return a feature's name as words for the report."""
    return WORDS[feature] if feature in WORDS else f"it belongs to {feature.removeprefix(_WORD)!r}"


def word_columns(words: Sequence[str]) -> tuple[str, ...]:
    """Return the names of the columns that are 1 for units with each of `words` in their names."""
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

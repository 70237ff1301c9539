"""Train the ranking models on the labelled sets: held-out models for figures, and the artefact that relab ships."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from evals.rca.cases import ALGORITHM_SET, HAND_SET, TRAIL_SET, Case
from relab.rca.ranking import DETAILS, RankingModels, SourceModel, TrainingRun
from relab.rca.ranking.fitting import Example, examples_of, folds_of, train_on

FOLDS = 10
SPAN_FOLDS = 5
SEEDS = (1, 2, 3)

SOURCES = {ALGORITHM_SET: "captain-agent", HAND_SET: "magentic-one", TRAIL_SET: "smolagents open deep research"}
KIND_OF_TRAIL = {detail.trail: kind for kind, detail in DETAILS.items() if detail.trail}
"""The kind of problem for each category of TRAIL."""

WITHOUT_KIND = "other"

_CARDS = {
    ALGORITHM_SET: {
        "data": "Who&When, algorithm-generated: 126 failed conversations of CaptainAgent on questions of GAIA and AssistantBench",
        "labels": "the step of the first mistake, by one annotator; a second one agrees in 35 % of 43 conversations",
        "licence": "MIT",
    },
    HAND_SET: {
        "data": "Who&When, hand-crafted: 58 failed conversations of Magentic-One on questions of GAIA and AssistantBench",
        "labels": "the step of the first mistake, by one annotator; a second one agrees in 35 % of 43 conversations",
        "licence": "MIT",
    },
    TRAIL_SET: {
        "data": "TRAIL, GAIA part: 113 traces of smolagents' open deep research",
        "labels": "spans with errors and their categories, by annotators; labels shuffled within a trace still give F1 0.31",
        "licence": "MIT",
    },
}


@dataclass(frozen=True)
class HeldOut:
    """A model with the cases that it was not trained on; `seed` names the split."""

    seed: int
    models: RankingModels
    cases: tuple[int, ...]


def labelled_of(case: Case) -> TrainingRun:
    """Return the run of a case with its labels, in the vocabulary of relab."""
    problems = frozenset((span, KIND_OF_TRAIL.get(category, WITHOUT_KIND)) for span, category in case.truth.spans)
    return TrainingRun(case.run, case.group, case.truth.step_id, problems)


def examples(cases: Sequence[Case]) -> list[Example]:
    """Return the cases as training examples, in order; the cases of a set are either all of steps or all of spans."""
    return examples_of([labelled_of(case) for case in cases], with_calls=any(case.truth.spans for case in cases))


def held_out(dataset: str, found: Sequence[Example], seeds: Sequence[int] = SEEDS) -> Iterator[HeldOut]:
    """Yield for each seed and fold a model trained on the other folds; a question is never on both sides of a split."""
    groups = [example.group for example in found]
    count = SPAN_FOLDS if dataset == TRAIL_SET else FOLDS
    for seed in seeds:
        fold = folds_of(groups, count, seed)
        for number in range(count):
            held = np.flatnonzero(fold == number).tolist()
            model = train_set(dataset, [found[index] for index in np.flatnonzero(fold != number)])
            yield HeldOut(seed, RankingModels(sources=(model,)), tuple(held))


def train_set(dataset: str, found: Sequence[Example], agents: Sequence[str] = ()) -> SourceModel:
    """Return a model of a set from (some of) its examples; `agents` name further agents whose runs it is used for."""
    return train_on(found, source=SOURCES[dataset], agents=agents, card=_CARDS[dataset])


def learning_curve(
    dataset: str, found: Sequence[Example], sizes: Sequence[int], seeds: Sequence[int] = SEEDS
) -> Iterator[tuple[int, HeldOut]]:
    """Yield (number of labelled runs, model trained on that many of the other folds) for each size, seed and fold.

    Sizes that the other folds do not have are left out. Five folds; the runs are drawn with the seed.
    """
    groups = [example.group for example in found]
    for seed in seeds:
        fold = folds_of(groups, 5, seed)
        for number in range(5):
            held = tuple(np.flatnonzero(fold == number).tolist())
            others = np.random.default_rng(seed).permutation(np.flatnonzero(fold != number))
            for size in sizes:
                if size <= len(others):
                    model = train_set(dataset, [found[index] for index in others[:size]])
                    yield size, HeldOut(seed, RankingModels(sources=(model,)), held)

"""Train a model of one source on labelled runs.

model = train(labelled, source="my agent", agents=["my-agent"], card={"labels": "by our team"})
text = shipped_models().with_source(model).dump()
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from relab.rca.ranking.model import SourceModel
from relab.telemetry.models import AgentRun

MIN_RUNS = 10
"""With fewer labelled runs there is nothing to hold out."""


@dataclass(frozen=True)
class TrainingRun:
    """A run with the labels that a person gave it.

    Attributes:
        run: the run.
        group: the task of the run. All runs of one task are held out of the fit together.
        step_id: the id of the step that first went wrong; None without such a label.
        problems: pairs (id of a step or tool call, kind of its problem); empty without such labels.
    """

    run: AgentRun
    group: str
    step_id: str | None = None
    problems: frozenset[tuple[str, str]] = frozenset()


def train(
    labelled: Sequence[TrainingRun], *, source: str, agents: Sequence[str] = (), card: Mapping[str, str] | None = None
) -> SourceModel:
    """Return a model trained on labelled runs of one source (the program that made the runs).

    Args:
        labelled: the labelled runs. The model reads tool calls like steps if a run has labelled problems.
        source: the name of the source.
        agents: the names of the agents whose runs the model is for. Without them, runs are recognised by the names in
            them, or by the lines around each task.
        card: facts about the training data, by name, which are stored with the model.

    Raises:
        RankingModelError: fewer than `MIN_RUNS` runs have a labelled first mistake, and fewer than `MIN_RUNS` have
            labelled problems.
    """
    from relab.rca.ranking.fitting import examples_of, train_on  # noqa: PLC0415 - only training needs scipy

    with_calls = any(item.problems for item in labelled)
    return train_on(examples_of(labelled, with_calls=with_calls), source=source, agents=agents, card=card)

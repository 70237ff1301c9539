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
        group: the task of the run. Runs of one task are held out together.
        step_id: the step that first went wrong; None without such a label.
        problems: pairs `(id of a step or tool call, kind of its problem)`; empty without such labels.
    """

    run: AgentRun
    group: str
    step_id: str | None = None
    problems: frozenset[tuple[str, str]] = frozenset()


def train(
    labelled: Sequence[TrainingRun], *, source: str, agents: Sequence[str] = (), card: Mapping[str, str] | None = None
) -> SourceModel:
    """Return a model trained on labelled runs of one source.

    Args:
        labelled: the labelled runs. If any of them has labelled problems, tool calls are read as units of their own.
        source: the name of the source.
        agents: the names of the agents whose runs the model is for; without them, runs are recognised by the names in
            them.
        card: facts about the training data, by name, which are stored with the model.

    Raises:
        RankingModelError: fewer than `MIN_RUNS` runs have a label that names a step or call of the run.
    """
    from relab.rca.ranking.fitting import examples_of, train_on  # noqa: PLC0415 - only training needs scipy

    with_calls = any(item.problems for item in labelled)
    return train_on(examples_of(labelled, with_calls=with_calls), source=source, agents=agents, card=card)

"""Train a ranking model for one source (a program that makes runs) on labelled runs.

model = train(labelled, source="my agent", agents=["my-agent"], card={"labels": "by our team"})
text = shipped_models().with_source(model).dump()
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from relab.rca.ranking.model import SourceModel
from relab.rca.ranking.training_runs import TrainingRun


def train(
    labelled: Sequence[TrainingRun], *, source: str, agents: Sequence[str] = (), card: Mapping[str, str] | None = None
) -> SourceModel:
    """Return a model trained on labelled runs of one source (the program that made the runs).

    Args:
        labelled: the labelled runs. If problems were labelled in any run, the model reads tool calls as well as steps.
        source: the name of the source.
        agents: the names of the agents whose runs the model is for. If there are none, runs of the source are
            recognised by the words in the names of their agents, steps and tools, or by the fixed lines that the
            program writes before and after the text of each task.
        card: facts about the training data, by name, which are stored with the model.

    Raises:
        RankingModelError: too few labelled runs: neither `MIN_RUNS` with a labelled first mistake nor `MIN_RUNS` with
            labelled problems.
    """
    from relab.rca.ranking.fitting import examples_of, train_on  # noqa: PLC0415 - only training needs scipy

    with_calls = any(item.problems for item in labelled)
    return train_on(examples_of(labelled, with_calls=with_calls), source=source, agents=agents, card=card)

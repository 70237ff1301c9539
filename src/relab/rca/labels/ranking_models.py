"""Train models that rank the steps of runs, on the labels that people gave to runs, and store them in the database.

Each agent has a model of its own.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Final

from pydantic import BaseModel

from relab.core.clock import Clock, format_time
from relab.rca.errors import RankingModelError
from relab.rca.labels import repository
from relab.rca.labels.keeper import LabelKeeper
from relab.rca.labels.models import LabelledRun
from relab.storage import Database

if TYPE_CHECKING:
    from relab.rca.ranking import RankingModels, TrainingRun

_MAX_SOURCE_CHARS: Final = 200


class TrainedModel(BaseModel):
    """The result of training a ranking model for one agent.

    Attributes:
        agent_name: the name of the agent.
        labels: the number of the agent's labelled runs that can be used for training.
        trained: whether a model was trained. It is false if there are too few labels; an older model is then kept.
        right: the number of tested runs in which the model ranked the labelled step first.
        held_out: the number of labelled runs that were tested by cross-validation.
    """

    agent_name: str
    labels: int
    trained: bool
    right: int = 0
    held_out: int = 0


class RankingModelKeeper:
    """Trains, stores, reads and deletes models that rank the steps of runs. They are trained on people's labels."""

    def __init__(self, database: Database, clock: Clock, labels: LabelKeeper) -> None:
        self._database = database
        self._clock = clock
        self._labels = labels
        self._read: tuple[tuple[tuple[str, int], ...], RankingModels] | None = None

    def models(self) -> RankingModels:
        """Return the models that rank steps: first those trained by this installation, then those that relab ships.

        Raises:
            RankingModelError: a stored model has a format that this version of relab cannot read. Train it again or
                remove it.
        """
        from relab.rca.ranking import RankingModels, shipped_models

        with self._database.read() as session:
            key = repository.model_versions(session)
            if self._read is None or self._read[0] != key:
                models = shipped_models()
                for text in repository.model_artefacts(session):
                    for model in RankingModels.load(text).sources:
                        models = models.with_source(model)
                self._read = (key, models)
        return self._read[1]

    def train(self, agent_name: str | None = None) -> list[TrainedModel]:
        """Train a model for each agent with at least `MIN_RUNS` usable labels, or only for the agent `agent_name`.

        The model ranks the steps of a failed run by how likely each contains the first mistake. A label is usable if it
        names an innermost step (a step without steps inside) as the first mistake. A new model replaces an older one of
        the agent.

        Returns:
            A result for each agent with at least one usable label, sorted by agent. Agents with too few usable labels
            are included, with `trained` = false.

        Raises:
            RankingModelError: no agent has enough usable labels.
        """
        from relab.rca.ranking import MIN_RUNS

        labelled: defaultdict[str, list[TrainingRun]] = defaultdict(list)
        for item in self._labels.labelled_runs():
            found = _training_run(item)
            if found is not None and agent_name in {None, item.run.agent_name}:
                labelled[item.run.agent_name].append(found)
        outcomes = [self._train(name, runs) for name, runs in sorted(labelled.items())]
        if not any(outcome.trained for outcome in outcomes):
            most = max((outcome.labels for outcome in outcomes), default=0)
            raise RankingModelError(
                f"No agent has enough labels: at most {most} runs of an agent have a label with an innermost step.",
                remedy=f"Label at least {MIN_RUNS} failed runs of one agent: lab rca label RUN --step ID.",
            )
        return outcomes

    def remove(self, agent_name: str) -> bool:
        """Delete the model of an agent; return False if the agent has none."""
        with self._database.write() as unit:
            return repository.remove_model(unit.session, _source(agent_name))

    def _train(self, agent_name: str, runs: list[TrainingRun]) -> TrainedModel:
        from relab.rca.ranking import MIN_RUNS, RankingModels, train

        if len(runs) < MIN_RUNS:
            return TrainedModel(agent_name=agent_name, labels=len(runs), trained=False)
        now = self._clock.now_us()
        card = {"data": f"runs of {agent_name}", "labels": f"{len(runs)}, of one's own", "made": format_time(now)}
        # The labels come newest first; a model must not depend on their order.
        runs.sort(key=lambda item: item.run.run_id)
        model = train(runs, source=_source(agent_name), agents=[agent_name], card=card)
        with self._database.write() as unit:
            repository.save_model(unit.session, model.source, RankingModels(sources=(model,)).dump(), now)
        hits = model.steps.calibration.hits if model.steps is not None else ()
        return TrainedModel(
            agent_name=agent_name,
            labels=len(runs),
            trained=True,
            right=sum(right for _, _, right, _ in hits),
            held_out=sum(count for _, _, _, count in hits),
        )


def _source(agent_name: str) -> str:
    return f"agent {agent_name}"[:_MAX_SOURCE_CHARS]


def _training_run(item: LabelledRun) -> TrainingRun | None:
    """Return a labelled run as training data; None if its label names no innermost step of the run."""
    from relab.rca.evidence import RunView
    from relab.rca.ranking import TrainingRun, units_of

    step_id = item.label.step_id
    if step_id is None or all(unit.unit_id != step_id for unit in units_of(RunView(item.run), with_calls=False)):
        return None
    return TrainingRun(item.run, item.run.task_id or item.run.question or item.run.run_id, step_id)

"""Plan the trials of a run: which task runs with which variant, and in which order.

The same configuration and number of tasks always give the same plan, so a continued run makes its plan again. A `Slot`
is a position in the plan, with the indices of its variant and task. A `Trial` has the variant and the task themselves,
so it can be run.
"""

from __future__ import annotations

import random
from array import array
from collections.abc import Iterator, MutableSequence, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from relab.experiments.config.models import ExperimentConfig, Variant
from relab.experiments.config.policies import Scheduling
from relab.experiments.models import TrialIds
from relab.experiments.plan.dataset import Task, TaskIndex


class Slot(NamedTuple):
    """A position in the plan of a run.

    Attributes:
        number: the position, from 1; the trial's id is `trial_<number>`.
        variant: the index of the variant; 0 is the baseline.
        task: the index of the task in the data set, from 0.
        replication: the number of the repeat, from 0.
    """

    # A tuple is small; a plan may have a hundred thousand positions.
    number: int
    variant: int
    task: int
    replication: int

    @property
    def trial_id(self) -> str:
        """The id of the trial in its run."""
        return trial_id_of(self.number)


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """One trial to run, as a plain value that can be sent to another process.

    Attributes:
        number: the trial's position in the plan, from 1.
        variant: the compared configuration that the trial runs with.
        task_index: the position of the task in the data set, from 0.
        repl_idx: the number of the repeat, from 0.
        chain_id: the id of the trial's chain. In a chain, each trial continues from the state of the trial before.
        previous_id: the id of the trial whose workspace and state this trial continues from; None to start from the
            project's snapshot.
    """

    run_id: str
    number: int
    variant: Variant
    task: Task
    task_index: int
    repl_idx: int
    chain_id: str
    previous_id: str | None = None

    @property
    def ids(self) -> TrialIds:
        """The ids of the trial, as every document about the trial contains them."""
        return TrialIds(
            self.run_id, trial_id_of(self.number), self.variant.variant_id, self.task.task_id, self.repl_idx
        )


def trial_id_of(number: int) -> str:
    """Return the id of the trial at a position in the plan (from 1): `trial_<number>`."""
    return f"trial_{number}"


def trial_at(
    slot: Slot, config: ExperimentConfig, tasks: TaskIndex, *, run_id: str, previous_id: str | None = None
) -> Trial:
    """Return the trial at a position of the plan, with its task read from the data set.

    Args:
        slot: the position.
        config: the experiment.
        tasks: the index of the data set.
        run_id: the id of the run.
        previous_id: the id of the trial whose workspace and state this trial continues from; None to start from the
            project's snapshot.

    Raises:
        RunChangedError: the data set was changed since it was indexed.
    """
    variant, task = config.variants[slot.variant], tasks.read(slot.task)
    return Trial(
        run_id=run_id,
        number=slot.number,
        variant=variant,
        task=task,
        task_index=slot.task,
        repl_idx=slot.replication,
        chain_id=config.design.policies.state.chain_id(variant.variant_id, task.task_id, slot.replication),
        previous_id=previous_id,
    )


class SlotPlan(Protocol):
    """All trials of a run, in the order in which they are started."""

    def __len__(self) -> int:
        """Return the number of trials in the plan."""

    def __iter__(self) -> Iterator[Slot]:
        """Yield the slot (the position in the plan) of each trial, in the order of the plan."""

    def slot(self, index: int) -> Slot:
        """Return the slot (the position in the plan, with its variant, task and repeat) at `index`, counted from 0."""


@dataclass(frozen=True)
class ListedPlan:
    """A plan that stores its slots (positions) as a list.

    It is the plan of a run of forks, which are trials that begin at a checkpoint of an earlier trial.
    """

    slots: Sequence[Slot]

    def __len__(self) -> int:
        return len(self.slots)

    def __iter__(self) -> Iterator[Slot]:
        return iter(self.slots)

    def slot(self, index: int) -> Slot:
        """Return the slot (the position in the plan, with its variant, task and repeat) at `index`, counted from 0."""
        return self.slots[index]


@dataclass(frozen=True)
class TrialPlan:
    """All trials of a run, in the order in which they are started.

    Attributes:
        variants: the number of variants, including the baseline.
        replications: the number of repeats of each task with each variant.
        scheduling: whether trials are ordered by task, by variant, or randomly.
        order: the indices of the tasks, in the order in which they are run.
        permutation: for a random order of trials, a random permutation of their positions; None for any other order.
    """

    variants: int
    replications: int
    scheduling: Scheduling
    order: Sequence[int]
    permutation: Sequence[int] | None = None

    def __len__(self) -> int:
        return self.variants * self.replications * len(self.order)

    def __iter__(self) -> Iterator[Slot]:
        return (self.slot(index) for index in range(len(self)))

    def slot(self, index: int) -> Slot:
        """Return the slot (the position in the plan, with its variant, task and repeat) at `index`, counted from 0."""
        place = index if self.permutation is None else self.permutation[index]
        if self.scheduling is Scheduling.VARIANT_SEQUENTIAL:
            variant, rest = divmod(place, len(self.order) * self.replications)
            position, replication = divmod(rest, self.replications)
        else:
            position, rest = divmod(place, self.variants * self.replications)
            replication, turn = divmod(rest, self.variants)
            # The variants take turns to go first, so that effects of going first (warm caches, used quotas) are balanced.
            variant = (turn + position + replication) % self.variants
        return Slot(index + 1, variant, self.order[position], replication)


def make_plan(
    *, variants: int, tasks: int, replications: int, scheduling: Scheduling, seed: int, shuffle_tasks: bool
) -> TrialPlan:
    """Return the order of all trials; the same arguments give the same plan on every machine.

    Args:
        variants: the number of variants, including the baseline.
        tasks: the number of tasks.
        replications: the number of repeats of each task with each variant.
        scheduling: whether trials are ordered by task, by variant, or randomly.
        seed: the seed of all random orders.
        shuffle_tasks: whether the order of the tasks is random, too.
    """
    order: MutableSequence[int] | range = range(tasks)
    if shuffle_tasks:
        order = array("q", order)
        random.Random(f"tasks {seed}").shuffle(order)  # noqa: S311 an order, not a secret
    permutation = None
    if scheduling is Scheduling.RANDOMIZED:
        permutation = array("q", range(variants * tasks * replications))
        random.Random(f"trials {seed}").shuffle(permutation)  # noqa: S311 an order, not a secret
    return TrialPlan(variants, replications, scheduling, order, permutation)

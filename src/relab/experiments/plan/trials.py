"""The plan: the order of all trials. It is a pure function of the configuration, so that a run can be continued."""

from __future__ import annotations

import random
from array import array
from collections.abc import Iterator, MutableSequence, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from relab.experiments.config.models import Scheduling


class Slot(NamedTuple):
    """One planned trial: its task, variant and repeat, and its position in the order.

    Attributes:
        number: from 1; the trial's id is `trial_<number>`.
        variant: index into the variants, 0 for the baseline.
        task: index into the data set.
        replication: from 0.
    """

    number: int
    variant: int
    task: int
    replication: int

    @property
    def trial_id(self) -> str:
        """The id of the trial in its run."""
        return f"trial_{self.number}"


@dataclass(frozen=True)
class TrialPlan:
    """All trials of a run, in order.

    Attributes:
        order: the task index at each position, shuffled if the configuration says so.
        permutation: a random permutation of all trials, for the randomised schedule; None for the other schedules.
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
        """Return the trial at a position, counted from 0."""
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
    """Return the plan; the same arguments give the same plan on every machine.

    Args:
        variants: the number of variants, including the baseline.
        tasks: the number of tasks.
        replications: repeats of each task with each variant.
        scheduling: the order of the trials.
        seed: of the shuffling.
        shuffle_tasks: whether the tasks are shuffled.
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

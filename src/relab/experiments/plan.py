"""The plan: which trial runs when. A pure function of the configuration, so that a run can be continued."""

from __future__ import annotations

import random
from array import array
from collections.abc import Iterator, MutableSequence, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from relab.experiments.config import Scheduling


class Slot(NamedTuple):
    """One trial: what is tried, and its place in the order.

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
class Plan:
    """All trials of a run, in order.

    Attributes:
        order: the task of each position, shuffled if the configuration says so.
        permutation: of all trials, for the randomised schedule; None if the order is that of the schedule.
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
        """Return the trial at a position from 0 on."""
        place = index if self.permutation is None else self.permutation[index]
        if self.scheduling is Scheduling.VARIANT_SEQUENTIAL:
            variant, rest = divmod(place, len(self.order) * self.replications)
            position, replication = divmod(rest, self.replications)
        else:
            position, rest = divmod(place, self.variants * self.replications)
            replication, turn = divmod(rest, self.variants)
            # Each variant goes first as often as the others: what the first of a pair warms up or uses up evens out.
            variant = (turn + position + replication) % self.variants
        return Slot(index + 1, variant, self.order[position], replication)


def make_plan(
    *, variants: int, tasks: int, replications: int, scheduling: Scheduling, seed: int, shuffle_tasks: bool
) -> Plan:
    """Return the plan; the same arguments give the same plan on every machine.

    Args:
        variants: how many there are, with the baseline.
        tasks: how many tasks are used.
        replications: repeats of each task with each variant.
        scheduling: the order.
        seed: of the shuffling.
        shuffle_tasks: whether tasks come in an order of their own.
    """
    order: MutableSequence[int] | range = range(tasks)
    if shuffle_tasks:
        order = array("q", order)
        random.Random(f"tasks {seed}").shuffle(order)  # noqa: S311 an order, not a secret
    permutation = None
    if scheduling is Scheduling.RANDOMIZED:
        permutation = array("q", range(variants * tasks * replications))
        random.Random(f"trials {seed}").shuffle(permutation)  # noqa: S311 an order, not a secret
    return Plan(variants, replications, scheduling, order, permutation)

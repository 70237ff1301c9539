"""The trial plan: contains every trial once, is deterministic, and alternates which variant goes first."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relab.experiments.config.policies import Scheduling
from relab.experiments.plan.trials import Slot, make_plan

plans = st.fixed_dictionaries(
    {
        "variants": st.integers(1, 6),
        "tasks": st.integers(0, 12),
        "replications": st.integers(1, 6),
        "scheduling": st.sampled_from(Scheduling),
        "seed": st.integers(-(2**70), 2**70),
        "shuffle_tasks": st.booleans(),
    }
)


@given(plans)
def test_every_trial_is_planned_exactly_once(arguments: dict[str, Any]) -> None:
    plan = make_plan(**arguments)
    slots = list(plan)

    assert len(slots) == len(plan) == arguments["variants"] * arguments["tasks"] * arguments["replications"]
    assert {(slot.variant, slot.task, slot.replication) for slot in slots} == {
        (variant, task, replication)
        for variant in range(arguments["variants"])
        for task in range(arguments["tasks"])
        for replication in range(arguments["replications"])
    }
    assert [slot.trial_id for slot in slots] == [f"trial_{number}" for number in range(1, len(slots) + 1)]
    assert slots == [plan.slot(index) for index in range(len(plan))]


@given(plans)
def test_plan_is_deterministic(arguments: dict[str, Any]) -> None:
    assert list(make_plan(**arguments)) == list(make_plan(**arguments))


@given(st.integers(1, 6), st.integers(1, 12), st.integers(1, 6), st.booleans())
def test_pairs_are_adjacent_and_no_variant_is_always_first(
    variants: int, tasks: int, replications: int, shuffle: bool
) -> None:
    plan = make_plan(
        variants=variants,
        tasks=tasks,
        replications=replications,
        scheduling=Scheduling.PAIRED_INTERLEAVED,
        seed=1,
        shuffle_tasks=shuffle,
    )
    slots = list(plan)
    groups = [slots[begin : begin + variants] for begin in range(0, len(slots), variants)]
    for group in groups:
        assert len({(slot.task, slot.replication) for slot in group}) == 1
        assert {slot.variant for slot in group} == set(range(variants))
    # Within each task and within each repeat, the counts of going first differ by at most one between variants.
    for key in ("task", "replication"):
        for value in {getattr(group[0], key) for group in groups}:
            first = Counter(group[0].variant for group in groups if getattr(group[0], key) == value)
            counts = [first[variant] for variant in range(variants)]
            assert max(counts) - min(counts) <= 1


@given(st.integers(1, 4), st.integers(1, 8), st.integers(1, 4))
def test_the_sequential_schedule_ends_a_variant_before_the_next(variants: int, tasks: int, replications: int) -> None:
    plan = make_plan(
        variants=variants,
        tasks=tasks,
        replications=replications,
        scheduling=Scheduling.VARIANT_SEQUENTIAL,
        seed=0,
        shuffle_tasks=False,
    )

    assert [(slot.variant, slot.task, slot.replication) for slot in plan] == [
        (variant, task, replication)
        for variant in range(variants)
        for task in range(tasks)
        for replication in range(replications)
    ]


def order(scheduling: Scheduling, seed: int, *, shuffle: bool = False) -> list[Slot]:
    return list(
        make_plan(variants=2, tasks=30, replications=2, scheduling=scheduling, seed=seed, shuffle_tasks=shuffle)
    )


def test_seed_changes_only_random_orders() -> None:
    assert order(Scheduling.RANDOMIZED, 1) != order(Scheduling.RANDOMIZED, 2)
    assert order(Scheduling.PAIRED_INTERLEAVED, 1) == order(Scheduling.PAIRED_INTERLEAVED, 2)
    shuffled = order(Scheduling.PAIRED_INTERLEAVED, 1, shuffle=True)
    assert shuffled != order(Scheduling.PAIRED_INTERLEAVED, 2, shuffle=True)
    assert [slot.task for slot in shuffled] != sorted(slot.task for slot in shuffled)


def test_orders_are_those_of_earlier_releases() -> None:
    """A run that an earlier release began continues with this plan, so its order must not change."""
    plan = make_plan(variants=2, tasks=3, replications=1, scheduling=Scheduling.RANDOMIZED, seed=42, shuffle_tasks=True)

    assert [(slot.variant, slot.task) for slot in plan] == [(1, 1), (1, 2), (1, 0), (0, 2), (0, 0), (0, 1)]


@pytest.mark.parametrize("scheduling", Scheduling)
def test_slot_of_a_large_plan_is_found_by_its_position(scheduling: Scheduling) -> None:
    plan = make_plan(variants=2, tasks=50_000, replications=1, scheduling=scheduling, seed=0, shuffle_tasks=False)

    assert len(plan) == 100_000
    assert plan.slot(99_999).trial_id == "trial_100000"

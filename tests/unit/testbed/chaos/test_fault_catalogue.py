"""The catalogue of faults is complete and consistent: every name in it exists, and every fault can be repaired."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest

from relab.testbed.actions.operations.catalogue import all_operations
from relab.testbed.actions.plant import Plant
from relab.testbed.chaos.faults.base import Injectable
from relab.testbed.chaos.faults.catalogue import FAULTS, INJECTABLES, NOISE

NEEDS = {"root", "cgroup", "mount"}
EVENTS = pytest.mark.parametrize("event", INJECTABLES.values(), ids=INJECTABLES)


@pytest.fixture
def plant(tmp_path: Path) -> Iterator[Plant]:
    """A plant without servers: the catalogue of actions sends no requests."""
    found = Plant(tmp_path / "control.sock", "http://127.0.0.1:9")
    yield found
    found.close()


def shipped_classes(base: type[Injectable[Any]] = Injectable) -> Iterator[type[Injectable[Any]]]:
    for kind in base.__subclasses__():
        if kind.__module__.startswith("relab."):
            yield from shipped_classes(kind)
            if not kind.__subclasses__():
                yield kind


def test_every_class_of_faults_and_noise_is_registered_under_its_name() -> None:
    registered = {type(event) for event in INJECTABLES.values()}
    assert set(shipped_classes()) == registered
    for name, event in INJECTABLES.items():
        assert event.name == name
    assert set(NOISE) == {"deploy_restart", "batch_job", "slow_client"}


def test_each_cause_belongs_to_one_fault() -> None:
    causes = [fault.cause for fault in FAULTS.values()]
    assert len(set(causes)) == len(causes)


@EVENTS
def test_event_is_described(event: Injectable[Any]) -> None:
    assert event.title
    assert event.symptom.shows
    assert event.symptom.tells_apart
    assert set(event.needs) <= NEEDS


@EVENTS
def test_similar_events_are_distinguished(event: Injectable[Any]) -> None:
    assert event.symptom.look_alikes
    assert set(event.symptom.look_alikes) <= INJECTABLES.keys() - {event.name}


@EVENTS
def test_repairs_and_harmful_actions_exist_and_do_not_overlap(event: Injectable[Any], plant: Plant) -> None:
    actions = {operation.action.name for operation in all_operations(plant)}
    assert {*event.repairs, *event.harms} <= actions
    assert not set(event.repairs) & set(event.harms)
    assert len(event.harms) >= 2


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_fault_has_a_repair(fault: Injectable[Any]) -> None:
    assert fault.repairs


@pytest.mark.parametrize("noise", NOISE.values(), ids=NOISE)
def test_noise_has_no_repair(noise: Injectable[Any]) -> None:
    assert not noise.repairs


@EVENTS
def test_event_accepts_the_parameters_that_it_draws(event: Injectable[Any]) -> None:
    rng = Random(7)
    for _ in range(50):
        drawn = event.draw_parameters(rng)
        read = event.read_parameters(drawn)
        assert drawn.items() <= read.model_dump().items()


def test_most_faults_work_without_privileges() -> None:
    assert sum(not fault.needs for fault in FAULTS.values()) >= 18

"""The catalogue of faults says nothing that is not so: what it names exists, and every fault can be mended."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from relab.testbed.actions.operations.catalogue import all_operations
from relab.testbed.actions.plant import Plant
from relab.testbed.chaos.faults.catalogue import all_faults
from relab.testbed.chaos.ground import Ground
from relab.testbed.chaos.models import Fault, Kind
from relab.testbed.links.client import LinksClient

NEEDS = {"root", "cgroup", "mount"}


@pytest.fixture
def plant(tmp_path: Path) -> Iterator[Plant]:
    """A plant that nobody answers for: the catalogues ask nothing."""
    found = Plant(tmp_path / "control.sock", "http://127.0.0.1:9")
    yield found
    found.close()


@pytest.fixture
def faults(plant: Plant, tmp_path: Path) -> dict[str, Fault]:
    ground = Ground(plant, LinksClient(tmp_path / "links.sock"), tmp_path, plant.target_url)
    return {name: fault for name, (fault, _) in all_faults(ground).items()}


def test_every_fault_has_a_repair_and_several_wrong_ones(faults: dict[str, Fault], plant: Plant) -> None:
    actions = {operation.action.name for operation in all_operations(plant)}
    for fault in faults.values():
        assert {*fault.repairs, *fault.harms} <= actions, fault.name
        assert not set(fault.repairs) & set(fault.harms), fault.name
        assert len(fault.harms) >= 2, fault.name
        assert bool(fault.repairs) == (fault.kind is Kind.FAULT), fault.name


def test_look_alikes_are_faults_and_never_the_fault_itself(faults: dict[str, Fault]) -> None:
    for fault in faults.values():
        assert fault.symptom.look_alikes, fault.name
        assert set(fault.symptom.look_alikes) <= faults.keys() - {fault.name}, fault.name


def test_names_and_needs_are_known(faults: dict[str, Fault]) -> None:
    assert all(fault.name == name for name, fault in faults.items())
    assert {need for fault in faults.values() for need in fault.needs} <= NEEDS
    assert sum(fault.kind is Kind.FAULT and not fault.needs for fault in faults.values()) >= 18
    assert {"deploy_restart", "batch_job", "slow_client"} == {
        name for name, fault in faults.items() if fault.kind is Kind.NOISE
    }

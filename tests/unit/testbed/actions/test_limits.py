"""The action that raises a limit: it never lowers one, and never changes the components that operators use."""

from __future__ import annotations

import resource
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from relab.testbed.actions.models import PreconditionError
from relab.testbed.actions.operations.restarts import ComponentLimitParameters, RaiseLimit
from relab.testbed.actions.plant import Plant

LIMITED = {"memory_mb": 256.0, "cpu_pct": None, "rlimits": {"nofile": 128}}


class Limited(Plant):
    """A plant with one limited and one unlimited worker, and two components that operators use; it stores limits."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, "http://127.0.0.1:9")
        self.limits = {"worker-1": LIMITED, "worker-2": {}, "actions": LIMITED, "links": LIMITED}

    def components(self, name: str | None = None) -> list[dict[str, Any]]:
        groups = {"actions": "actions", "links": "links"}
        found = [
            {"name": each, "group": groups.get(each, "target"), "limits": self.limits[each]} for each in self.limits
        ]
        return [item for item in found if name in (item["name"], item["group"])]

    def limit(self, name: str, limits: Mapping[str, Any]) -> list[dict[str, Any]]:
        self.limits[name] = dict(limits)
        return self.components(name)


@pytest.fixture
def operation(tmp_path: Path) -> RaiseLimit:
    return RaiseLimit(Limited(tmp_path / "none"))


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"component": "worker-1", "memory_mb": 256}, "as much already"),
        ({"component": "worker-1", "memory_mb": 100}, "as much already"),
        ({"component": "worker-1", "cpu_pct": 400}, "no such limit"),
        ({"component": "worker-1", "descriptors": 64}, "as much already"),
        ({"component": "worker-2", "memory_mb": 512}, "no such limit"),
        ({"component": "actions", "memory_mb": 512}, "what operators work by"),
        ({"component": "links", "descriptors": 512}, "what operators work by"),
        ({"component": "none", "memory_mb": 512}, "There is no component"),
        ({"component": "worker-1"}, "No limit is named"),
    ],
)
def test_limit_that_is_not_higher_is_rejected(operation: RaiseLimit, given: Mapping[str, Any], said: str) -> None:
    with pytest.raises(PreconditionError, match=said):
        operation.look(ComponentLimitParameters.model_validate(given))


def test_limit_is_raised_and_undone_and_unlimited_stays_unlimited(operation: RaiseLimit) -> None:
    wanted = ComponentLimitParameters(component="target", memory_mb=512, cpu_pct=400)
    before = operation.look(wanted)
    assert before == {"limits": {"worker-1": LIMITED}}

    done = operation.act(wanted, before)
    assert done == {"limits": {"worker-1": {"memory_mb": 512.0, "rlimits": {"nofile": 128}}}}
    plant = operation.plant
    assert isinstance(plant, Limited)
    assert plant.limits["worker-2"] == {}
    operation.undo(wanted, before)
    assert plant.limits["worker-1"] == LIMITED


def test_default_limit_of_descriptors_can_be_raised(operation: RaiseLimit) -> None:
    usual, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    with pytest.raises(PreconditionError):
        operation.look(ComponentLimitParameters(component="worker-2", descriptors=min(usual, 1_048_576)))
    assert operation.look(ComponentLimitParameters(component="target", descriptors=256))["limits"].keys() == {
        "worker-1"
    }

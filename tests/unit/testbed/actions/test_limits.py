"""What a limit may be raised to: never down, never of what operators work by."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from relab.testbed.actions.models import PreconditionError
from relab.testbed.actions.operations.restarts import RaiseLimit, Usage
from relab.testbed.actions.plant import Plant

LIMITED = {"memory_mb": 256.0, "cpu_pct": None, "rlimits": {"nofile": 128}}


class Limited(Plant):
    """A plant of which only limits are asked."""

    def components(self, name: str | None = None) -> list[dict[str, Any]]:
        group = {"actions": "actions", "links": "links"}.get(name or "", "target")
        return [{"name": name, "group": group, "limits": LIMITED}] if name != "none" else []


@pytest.fixture
def operation(tmp_path: Path) -> RaiseLimit:
    return RaiseLimit(Limited(tmp_path / "none", "http://127.0.0.1:9"))


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"component": "worker-1", "memory_mb": 256}, "256 already"),
        ({"component": "worker-1", "memory_mb": 100}, "100 is no more"),
        ({"component": "worker-1", "cpu_pct": 400}, "no limit of cpu_pct"),
        ({"component": "worker-1", "descriptors": 64}, "64 is no more"),
        ({"component": "worker-1", "memory_mb": 512, "descriptors": 128}, "128 already"),
        ({"component": "actions", "memory_mb": 512}, "what operators work by"),
        ({"component": "links", "descriptors": 512}, "what operators work by"),
        ({"component": "none", "memory_mb": 512}, "There is no component"),
        ({"component": "worker-1"}, "No limit is named"),
    ],
)
def test_what_is_not_raised_is_refused(operation: RaiseLimit, given: Mapping[str, Any], said: str) -> None:
    with pytest.raises(PreconditionError, match=said):
        operation.look(Usage.model_validate(given))


def test_what_is_raised_is_admitted(operation: RaiseLimit) -> None:
    found = operation.look(Usage(component="worker-1", memory_mb=512, descriptors=4_096))
    assert found["limits"] == LIMITED

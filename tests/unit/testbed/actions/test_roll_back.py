"""Rollback of settings: it and its undo restore the versions that were read, even if the settings change meanwhile."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from relab.testbed.actions.models import PreconditionError
from relab.testbed.actions.operations.settings import RollBackSetting
from relab.testbed.actions.plant import Plant


class Versions(Plant):
    """A plant with a history of settings in memory; records the versions of all rollbacks."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder / "none", "http://127.0.0.1:9")
        self.versions: list[dict[str, Any]] = []
        self.rolled: list[int | None] = []

    def add(self, author: str) -> None:
        """Append a version of the settings by this author."""
        self.versions.append({"version": len(self.versions) + 1, "author": author, "changes": {}})

    def history(self) -> list[dict[str, Any]]:
        return list(self.versions)

    def roll_back(self, version: int | None, note: str) -> int:
        self.rolled.append(version)
        self.add(note)
        return len(self.versions)


@pytest.fixture
def plant(tmp_path: Path) -> Iterator[Versions]:
    found = Versions(tmp_path)
    found.add("setup")
    yield found
    found.close()


def roll_back(plant: Versions, **given: Any) -> tuple[RollBackSetting, Any]:
    operation = RollBackSetting(plant)
    return operation, operation.action.parameters.model_validate(given)


def test_rollback_and_undo_restore_the_versions_that_were_read(plant: Versions) -> None:
    plant.add("deploy")
    operation, given = roll_back(plant)
    before = operation.look(given)
    plant.add("somebody else")
    operation.act(given, before)
    operation.undo(given, before)

    assert before["version"] == 2
    assert before["changed_by"] == "deploy"
    assert plant.rolled == [1, 2]


def test_rollback_accepts_only_earlier_versions(plant: Versions) -> None:
    operation, given = roll_back(plant)
    with pytest.raises(PreconditionError, match="never changed"):
        operation.look(given)
    plant.add("deploy")
    plant.add("deploy")
    operation, given = roll_back(plant, version=1)
    assert operation.look(given)["to"] == 1
    operation, given = roll_back(plant, version=3)
    with pytest.raises(PreconditionError, match="version 3"):
        operation.look(given)

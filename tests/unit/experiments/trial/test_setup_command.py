"""The environment that the command of `run-dev --setup` gets."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest

from relab.experiments.errors import ExperimentInvalidError
from relab.experiments.sandbox.protocol import PLACES, Folders, Launch, Places, SandboxError
from relab.experiments.trial.context import RunSettings
from relab.experiments.trial.redaction import Redactor
from relab.experiments.trial.setup_command import run_setup
from relab.experiments.workspace.snapshots import take_snapshot
from support.clocks import MovableClock
from support.experiments.configs import config


class Refusing:
    """A sandbox that records the attempts that it does not start."""

    def __init__(self) -> None:
        self.launches: list[Launch] = []

    def places(self, _folders: Folders) -> Places:
        return PLACES

    def start(self, launch: Launch) -> Any:
        self.launches.append(launch)
        raise SandboxError("as the test says")


@pytest.mark.parametrize(("sandbox", "has_path"), [({"mode": "container", "image": "i"}, False), ({}, True)])
def test_image_of_a_container_defines_the_path(tmp_path: Path, sandbox: dict[str, str], has_path: bool) -> None:
    root = tmp_path / "project"
    root.mkdir()
    settings = RunSettings(
        config=config(runtime__sandbox=sandbox, runtime__harness__environment={"pass": ["MINE"], "set": {"A": "1"}}),
        run_id="run_1",
        root=root,
        clock=MovableClock(),
        host_environment={"PATH": "/opt/host/bin", "MINE": "2", "OTHER": "3"},
        secrets={"KEY": "planted-secret"},
    )
    refusing = Refusing()

    with pytest.raises(ExperimentInvalidError):
        run_setup(
            "true",
            settings,
            refusing,  # type: ignore[arg-type]
            take_snapshot(root, tmp_path / "cache"),
            Redactor({}),
            threading.Event(),
        )

    [launch] = refusing.launches
    assert ("PATH" in launch.environment) is has_path
    assert {"MINE": "2", "A": "1", "KEY": "planted-secret"}.items() <= launch.environment.items()
    assert "OTHER" not in launch.environment

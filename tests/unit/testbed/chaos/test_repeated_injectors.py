"""Injectors whose methods are called repeatedly: after a repair, and after a failure."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from relab.testbed.actions.plant import PlantError
from relab.testbed.chaos.faults.host import FullDisk
from relab.testbed.chaos.faults.noise import Deployment
from relab.testbed.chaos.ground import Ground


def test_deleted_file_of_a_paused_disk_fault_is_not_written_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Path, "is_mount", lambda _: True)
    plant = SimpleNamespace(settings=lambda: {"data_dir": str(tmp_path)})
    disk = FullDisk(cast("Ground", SimpleNamespace(plant=plant)))
    disk.set_level(1e-9)
    disk.set_level(0)
    (file,) = tmp_path.iterdir()
    file.unlink()

    disk.set_level(1e-9)

    assert list(tmp_path.iterdir()) == []


def test_failed_restart_of_a_deployment_is_reported_once() -> None:
    def restart(_: str) -> None:
        raise PlantError("The supervisor does not answer.")

    plant = SimpleNamespace(
        change_settings=lambda *_args, **_options: None, components=lambda _: [{"name": "worker-1"}], restart=restart
    )
    deployment = Deployment(cast("Any", SimpleNamespace(plant=plant)))
    deployment.set_level(1)

    with pytest.raises(PlantError):
        deployment.end()
    deployment.end()

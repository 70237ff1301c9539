"""Experiments on a disk that is read-only, too small, or full."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from support.experiments.projects import Project, Run, without_privileges


def test_a_project_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    project = Project.make(tmp_path)
    for folder in (project.root / ".lab" / "runs", project.root / ".lab"):
        folder.mkdir(exist_ok=True)
        folder.chmod(0o555)
        error = project.json("run", "--no-telemetry", code=64, under=without_privileges())["error"]
        assert error["code"] == "experiment_invalid"
        assert str(project.root) in error["message"]
    assert project.runs() == []


@contextmanager
def _small_disk(folder: Path, size: str) -> Iterator[Path]:
    if os.geteuid() != 0:
        pytest.skip("only root can make a small disk")
    folder.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "none", str(folder)], check=False)
    if done.returncode != 0:
        pytest.skip("this machine does not let root mount a small disk")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def test_a_disk_that_is_too_small_is_refused_before_the_run(tmp_path: Path) -> None:
    with _small_disk(tmp_path / "disk", "32m") as disk:
        error = Project.make(disk).json("run", "--no-telemetry", code=1)["error"]
    assert error["code"] == "disk_full"
    assert "2 trials need about" in error["message"]


def test_full_disk_ends_a_replay_without_a_run_to_continue(tmp_path: Path) -> None:
    with _small_disk(tmp_path / "disk", "300m") as disk:
        project = Project.make(disk)
        run = project.run("--no-telemetry")
        with (disk / "filler").open("wb", buffering=0) as filler, suppress(OSError):
            # The last write is short because it fills the disk; on a full disk a write fails.
            while filler.write(bytes(65_536)) == 65_536:
                pass
        error = project.json("replay", "--run-dir", str(run.path), "--trial-id", "trial_1", code=1)["error"]

    assert error["code"] == "disk_full"
    assert "replay the trial again" in error["message"]
    assert "--continue" not in error["message"]


def test_trial_that_fills_the_disk_in_a_replay_is_named(tmp_path: Path) -> None:
    harness = """
if os.path.exists(bindings["meet"] + "/full"):
    with open("filling", "wb") as file:
        while True:
            file.write(bytes(4_000_000))
answer()
"""
    with _small_disk(tmp_path / "disk", "300m") as disk:
        project = Project.make(disk, harness)
        project.configure(baseline={"bindings": {"meet": str(tmp_path)}})
        run = project.run("--no-telemetry")
        (tmp_path / "full").touch()
        error = project.json("replay", "--run-dir", str(run.path), "--trial-id", "trial_1", code=1)["error"]

    assert error["code"] == "disk_full"
    assert error["message"].endswith("trial trial_1 has no result. Free disk space, then replay the trial again.")


@pytest.mark.full
def test_a_disk_that_fills_up_ends_the_run_and_loses_nothing(tmp_path: Path) -> None:
    harness = """
if ids["task_id"] == "task_002" and not os.path.exists(bindings["meet"] + "/freed"):
    with open("filling", "wb") as file:
        while True:
            file.write(bytes(4_000_000))
answer()
"""
    with _small_disk(tmp_path / "disk", "300m") as disk:
        project = Project.make(disk, harness, tasks=3)
        project.configure(baseline={"bindings": {"meet": str(tmp_path)}})
        error = project.json("run", "--no-telemetry", code=1)["error"]
        (path,) = project.runs()
        assert error["code"] == "disk_full"
        assert f"lab run --continue {path}" in error["message"]
        assert [row["trial_id"] for row in Run(path).journal()] == ["trial_1"]
        assert project.json("experiments", "show", path.name)["run"]["status"] == "interrupted"

        (path / "trials/trial_2/workspace/filling").unlink()
        (tmp_path / "freed").touch()
        run = project.run("--continue", str(path))

        assert [row["outcome"] for row in run.rows.values()] == ["success"] * 3
        assert run.answer["outcomes"] == {"control": {"success": 3}}

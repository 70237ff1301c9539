"""Removal of the control groups of a runner that was killed."""

from __future__ import annotations

from pathlib import Path

from relab.experiments.sandbox.cgroups import _remove_empty


def test_empty_groups_are_removed_beside_groups_with_processes(tmp_path: Path) -> None:
    runner = tmp_path / "runner"
    for number in range(10):
        (runner / f"empty-{number}").mkdir(parents=True)
        # A folder with content is not removed, as the kernel does not remove a group with processes.
        (runner / f"busy-{number}" / "process").mkdir(parents=True)

    _remove_empty(runner)

    assert {path.name for path in runner.iterdir()} == {f"busy-{number}" for number in range(10)}

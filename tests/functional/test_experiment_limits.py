"""Trials that exceed a limit: `lab run` ends them, names the limit, and continues.

Each attack is bounded by itself, so that a limit without effect costs little.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from contract.sandbox.rooms import INSTALL
from relab.experiments.workspace.untrusted_trees import use_of_disk
from rig.waiting import wait_until
from support.components.required import require_program
from support.experiments.projects import Project

HOSTILE = """\
import threading

def takes_tasks():
    # Threads count as processes do; 1,400 are more than the default, and small.
    threading.stack_size(65_536)
    for _ in range(1_400):
        try:
            threading.Thread(target=time.sleep, args=(60,), daemon=True).start()
        except RuntimeError:
            break
    time.sleep(60)

def takes_memory():
    held = bytearray(400_000_000)
    held[::4096] = b"x" * len(held[::4096])
    time.sleep(60)

def takes_tmp():
    for number in range(4):
        Path(os.environ["TMPDIR"], str(number)).write_bytes(bytes(800_000))
    time.sleep(60)

def takes_deleted_files():
    held = []
    for number in range(4):
        held.append(open(Path(paths["out"], "held"), "wb", buffering=0))
        held[-1].write(bytes(800_000))
        os.unlink(Path(paths["out"], "held"))
    time.sleep(60)

def takes_one_file():
    Path(paths["out"], "large").write_bytes(bytes(5_000_000))

def is_modest():
    answer()

globals()[task["does"]]()
"""
TYPES = {
    "takes_tasks": ("process_limit_exceeded", "1,024", "runtime.sandbox.resources.max_pids"),
    "takes_memory": ("memory_limit_exceeded", "200", "runtime.sandbox.resources.memory_mb"),
    "takes_tmp": ("disk_limit_exceeded", "MB", "runtime.workspace.max_written_mb"),
    "takes_deleted_files": ("disk_limit_exceeded", "MB", "runtime.workspace.max_written_mb"),
    "takes_one_file": ("disk_limit_exceeded", "MB", "runtime.workspace.max_written_mb"),
}


@pytest.mark.parametrize("mode", ["local", "bwrap"])
def test_each_limit_ends_its_trial_and_is_named(tmp_path: Path, mode: str) -> None:
    if mode == "bwrap":
        require_program("bwrap", INSTALL)
    names = [*TYPES, "is_modest"]
    project = Project.make(tmp_path, HOSTILE, [{"task_id": name, "does": name} for name in names])
    project.configure(
        runtime={
            "sandbox": {"mode": mode, "resources": {"memory_mb": 200}},
            "network": {"mode": "none"},
            "workspace": {"max_written_mb": 2},
            "timeouts": {"trial_seconds": 50},
        }
    )

    run = project.run()

    rows = run.by_task
    assert rows.pop("is_modest")["outcome"] == "success"
    for name, row in rows.items():
        error_type, value, field = TYPES[name]
        assert row["outcome"] == "error", (name, row["error_message"])
        assert row["error_type"] == error_type, (name, row["error_message"])
        assert value in row["error_message"]
        assert f"set {field}" in row["error_message"]
        limits = json.loads((run.trial(row["trial_id"]) / "state_inventory.json").read_bytes())["ext"]["limits"]
        assert limits["max_pids"]["value"] == 1_024
        assert limits["max_pids"]["is_default"] is True
        assert limits["memory_mb"]["value"] == 200
        assert limits["memory_mb"]["is_default"] is False
        assert {"memory_mb", "max_pids", "max_open_files", "max_written_mb"} == set(limits)
        assert all(limit["enforced_by"] for limit in limits.values())
    wait_until(lambda: not project.processes(), what="the end of all harnesses")


def test_sparse_files_are_counted_by_their_size_and_not_carried_over(tmp_path: Path) -> None:
    harness = """
for folder in ("holes", paths["state"]):
    os.makedirs(folder, exist_ok=True)
    for number in range(30):
        with open(Path(folder, str(number)), "wb") as file:
            file.truncate(1_900_000)
Path("kept").write_text("kept")
answer()
"""
    project = Project.make(tmp_path, harness, tasks=2)
    project.configure(
        design={"policies": {"state": "accumulate"}},
        runtime={"workspace": {"max_written_mb": 2}, "network": {"mode": "full"}},
    )

    run = project.run()

    for row in run.rows.values():
        assert row["outcome"] == "error", row["error_message"]
        assert row["error_type"] == "disk_limit_exceeded", row["error_message"]
        assert "60 files that were mostly holes were deleted" in row["error_message"]
        trial = run.trial(row["trial_id"])
        assert list((trial / "state").glob("[0-9]*")) == []
        assert (trial / "workspace" / "kept").read_text() == "kept"
    on_disk, _ = use_of_disk(run.path)
    assert on_disk < 10_000_000

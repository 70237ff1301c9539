"""Projects with the reference harnesses of `examples/harness`."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rig.waiting import wait_until
from support.experiments.projects import Project, Run, Runner

HARNESSES = Path(__file__).parents[3] / "examples" / "harness"
PYTHON = (sys.executable, "harness.py")
NODE = ("node", "harness.mjs")
STEPS = 40


def reference(
    tmp_path: Path, command: Sequence[str] = PYTHON, *, tasks: int = 1, steps: int = STEPS, **sections: Any
) -> Project:
    """Return a project with a reference harness, whose trials take `steps` steps of 50 ms."""
    rows = [{"task_id": f"task_{n}", "steps": steps, "zeros": 1, "text": f"text {n}"} for n in range(1, tasks + 1)]
    project = Project.make(tmp_path, tasks=rows)
    for path in HARNESSES.glob("harness.*"):
        shutil.copy(path, project.root / path.name)
    runtime = {"harness": {"command": list(command), "integration_level": "sdk_full"}, **sections.pop("runtime", {})}
    project.configure(
        baseline={"bindings": {"step_seconds": 0.05, "numbers_per_step": 50}}, runtime=runtime, **sections
    )
    return project


def run_at_step(runner: Runner, trial_id: str = "trial_1", step: int = 3) -> Run:
    """Wait until a trial has ended this step; return the run."""
    (path,) = wait_until(runner.project.runs, what="the run")
    run, events = Run(path), path / "trials" / trial_id / "out" / "harness_events.jsonl"
    wait_until(lambda: events.exists() and events.read_text().count("agent_step_end") >= step, what=f"step {step}")
    return run


def snapshot_of(folder: Path) -> dict[str, bytes]:
    """Return the content of each file below a folder, by its path."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}

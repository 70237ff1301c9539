"""The smallest valid experiment, and the parts of one of its trials."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import yaml

from relab.experiments.config.models import ExperimentConfig
from relab.experiments.models import TrialIds

IDS = TrialIds("run_1", "trial_1", "control", "task_1", 0)

_MINIMAL: dict[str, Any] = {
    "version": "0.3",
    "experiment": {"id": "demo", "name": "A demo"},
    "dataset": {"path": "../data/tasks.jsonl"},
    "baseline": {"variant_id": "control"},
    "runtime": {"harness": {"command": ["python", "./harness.py"]}},
}


def document(**fields: Any) -> dict[str, Any]:
    """Return the smallest experiment; a field is set by its dotted name, with `__` for the dot."""
    found = copy.deepcopy(_MINIMAL)
    for name, value in fields.items():
        *parents, last = name.split("__")
        node = found
        for parent in parents:
            node = node.setdefault(parent, {})
        node[last] = value
    return found


def config(**fields: Any) -> ExperimentConfig:
    """Return the smallest experiment, with some fields set."""
    return ExperimentConfig.model_validate(document(**fields))


def write_project(root: Path, tasks: int = 2, **fields: Any) -> Path:
    """Write a project with an experiment, a data set and a harness; return the experiment's file."""
    for folder in (".lab", "data"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    lines = [f'{{"task_id": "task_{number}"}}\n' for number in range(1, tasks + 1)]
    (root / "data" / "tasks.jsonl").write_text("".join(lines))
    (root / "harness.py").write_text("print('hello')\n")
    path = root / ".lab" / "experiment.yaml"
    path.write_text(yaml.safe_dump(document(**fields), sort_keys=False))
    return path

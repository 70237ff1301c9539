"""List the runs of a project, and describe one of them, from their folders; no database is read."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from relab.core.errors import RelabError
from relab.experiments.config.paths import runs_folder
from relab.experiments.errors import RunNotFoundError
from relab.experiments.records.journal import read_journal
from relab.experiments.records.run_folder import RunFolder, open_run
from relab.experiments.results.integrity import check_products
from relab.experiments.results.run_metadata import read_facts

MAX_FAILED = 20


def list_runs(root: Path) -> list[dict[str, Any]]:
    """Return the runs of a project as JSON objects, newest first; an unreadable folder has the status `damaged: …`.

    Keys: `run_id`, `experiment`, `command`, `status`, `trials` (the number of trials with a result), `created_at`.
    """
    folder = runs_folder(root)
    paths = sorted((path for path in folder.iterdir() if path.is_dir()), reverse=True) if folder.is_dir() else []
    return [_listed(path) for path in paths]


def show_run(root: Path, named: Path) -> dict[str, Any]:
    """Return a description of a run as JSON, after a check of the run's files.

    The keys include:

    - `status`, `sandbox` and `network` of the run
    - `outcomes`: `{variant id: {outcome: trials}}`
    - `failed_trials`: ids, outcome and error of each unsuccessful trial, at most `MAX_FAILED`
    - `integrity`: `checked` or `unchecked`

    Args:
        root: the folder of the project.
        named: the run's folder, or its id.

    Raises:
        RunNotFoundError: there is no such run.
        RunDamagedError: the journal or a file of the finished run was changed, or is missing.
    """
    run = open_run(find_run(root, named))
    is_checked = check_products(read_facts(run.path))
    outcomes: dict[str, Counter[str]] = {}
    failures: list[dict[str, Any]] = []
    for entry in read_journal(run.path):
        row = entry["row"]
        outcomes.setdefault(row["variant_id"], Counter())[row["outcome"]] += 1
        if not row["success"] and len(failures) < MAX_FAILED:
            names = ("trial_id", "variant_id", "task_id", "outcome", "error_type", "error_message", "agent_run_id")
            failures.append({name: row[name] for name in names})
    return {
        **_facts(run),
        "run_dir": str(run.path),
        "digest": run.digest,
        "sandbox": run.config.runtime.sandbox.mode.value,
        "network": run.config.runtime.network.mode.value,
        "outcomes": {variant: dict(counts) for variant, counts in outcomes.items()},
        "failed_trials": failures,
        "integrity": "checked" if is_checked else "unchecked",
        "overrides": run.facts["overrides"],
    }


def find_run(root: Path, named: Path) -> Path:
    """Return the folder of a run of the project at `root`; `named` is the run's folder or its id.

    Raises:
        RunNotFoundError: there is no such run.
    """
    for path in (named, runs_folder(root) / named):
        if path.is_dir():
            return path.absolute()
    raise RunNotFoundError(
        f"There is no run {str(named)!r}.", remedy="Run `lab experiments list` to see the runs of this project."
    )


def _listed(path: Path) -> dict[str, Any]:
    try:
        return _facts(open_run(path))
    except RelabError as error:
        return {
            "run_id": path.name,
            "experiment": None,
            "command": None,
            "status": f"damaged: {error.message}",
            "trials": None,
            "created_at": None,
        }


def _facts(run: RunFolder) -> dict[str, Any]:
    return {
        "run_id": run.run_id,
        "experiment": run.config.experiment.id,
        "command": run.facts["command"],
        "status": run.status(),
        "trials": sum(1 for _ in read_journal(run.path)),
        "created_at": run.manifest["created_at"],
    }

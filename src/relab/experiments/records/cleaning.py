"""Delete files that lab wrote in a project, in two steps: plan the deletion, and delete after the user has confirmed it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from relab.core.clock import parse_time
from relab.core.errors import InvalidInputError
from relab.experiments.config.paths import LAB, REPLAYS, RESCORED, SETS, runs_folder
from relab.experiments.config.starter_files import EXPERIMENT, SCHEMA
from relab.experiments.errors import RunBusyError, RunNotFoundError
from relab.experiments.records.run_folder import is_locked
from relab.experiments.workspace.untrusted_trees import remove_tree, use_of_disk


@dataclass(frozen=True)
class Cleaning:
    """The plan of a deletion.

    Attributes:
        runs: the folders of runs to delete.
        others: further files and folders to delete: caches, replays, scores from `lab rescore`, records of sets of
            experiments, files in the runs folder that belong to no run, and the files that `lab init` and
            `lab knobs-init` wrote.
        damaged: folders of runs that are not deleted, because runs are selected by age and the time of their creation
            cannot be read.
    """

    runs: tuple[Path, ...]
    others: tuple[Path, ...]
    damaged: tuple[Path, ...] = ()

    @property
    def paths(self) -> tuple[Path, ...]:
        """All files and folders to delete."""
        return (*self.runs, *self.others)

    @property
    def size_bytes(self) -> int:
        """The disk space that the files and folders to delete use, in bytes."""
        files = sum(path.lstat().st_size for path in self.paths if not path.is_dir())
        below, _ = use_of_disk(*(path for path in self.paths if path.is_dir()))
        return files + below


def plan_cleaning(
    root: Path, named: Sequence[Path] = (), *, init: bool = False, runs: bool = False, before_us: int | None = None
) -> Cleaning:
    """Return the files and folders that `clean` would delete; delete nothing.

    Args:
        root: the folder of the project.
        named: the ids or folders of runs to select.
        init: whether to select the files that `lab init` and `lab knobs-init` wrote.
        runs: whether to select all runs, and everything that depends on them: the cache with their snapshots, replays,
            scores from `lab rescore`, and records of sets of experiments.
        before_us: select the runs that were created before this time, in microseconds since 1970; None if runs are not
            selected by time.

    Raises:
        InvalidInputError: none of `named`, `init`, `runs` and `before_us` is given, or two of them that select runs.
        RunNotFoundError: this project has no such run.
        RunBusyError: a process works on one of the runs.
    """
    if not (named or init or runs or before_us is not None):
        raise InvalidInputError("Nothing is selected: give RUN…, --older-than, --runs or --init.")
    if (bool(named), runs, before_us is not None).count(True) > 1:
        raise InvalidInputError("Select runs in one way only: RUN…, --older-than or --runs.")
    found: list[Path] = []
    damaged: list[Path] = []
    if named:
        found = list(dict.fromkeys(_run_of(root, each) for each in named))
    elif runs:
        found = _all_runs(root)
    elif before_us is not None:
        for path in _all_runs(root):
            created_us = _created_us(path)
            if created_us is None:
                damaged.append(path)
            elif created_us < before_us:
                found.append(path)
    _refuse_busy(found)
    others = (
        [
            root / LAB / "cache",
            root / LAB / REPLAYS,
            root / LAB / RESCORED,
            root / LAB / SETS,
            *(path for path in _leftovers(root) if path not in found),
        ]
        if runs
        else []
    )
    others += [root / EXPERIMENT, root / SCHEMA, root / LAB / "knobs"] if init else []
    return Cleaning(tuple(found), tuple(path for path in others if path.exists()), tuple(damaged))


def clean(planned: Cleaning) -> Sequence[Path]:
    """Check again that no run is busy, then delete the planned files and folders; return their paths.

    Raises:
        RunBusyError: a process works on one of the runs; nothing is deleted.
    """
    _refuse_busy(planned.runs)
    for path in planned.paths:
        if path.is_dir() and not path.is_symlink():
            remove_tree(path)
        else:
            path.unlink(missing_ok=True)
    return planned.paths


def _all_runs(root: Path) -> list[Path]:
    folder = runs_folder(root)
    return sorted(path for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []


def _leftovers(root: Path) -> list[Path]:
    """Return the entries of the runs folder that belong to no run: all that are not folders."""
    folder = runs_folder(root)
    return sorted(path for path in folder.iterdir() if not path.is_dir()) if folder.is_dir() else []


def _run_of(root: Path, named: Path) -> Path:
    """Return the folder of a run of the project at `root`; `named` is the run's folder or its id.

    A folder outside of the project's runs folder is rejected.

    Raises:
        RunNotFoundError: the project has no such run.
    """
    folder = runs_folder(root).absolute()
    for path in (folder / named, named.absolute()):
        if path.parent.resolve() == folder.resolve() and path.name not in {"", ".", ".."} and path.is_dir():
            return folder / path.name
    raise RunNotFoundError(
        f"This project has no run {str(named)!r}.", remedy="Run `lab experiments list` to see the runs of this project."
    )


def _created_us(path: Path) -> int | None:
    """Return when a run was created, in microseconds since 1970; None if its manifest cannot be read."""
    try:
        return parse_time(json.loads((path / "manifest.json").read_bytes())["created_at"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _refuse_busy(runs: Sequence[Path]) -> None:
    for path in runs:
        # Not by the stored status, which is not "running" while a process writes the results of a run.
        if is_locked(path):
            raise RunBusyError(f"A process is working on {path}.", remedy="Stop it first.")

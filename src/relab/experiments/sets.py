"""Run, continue and compare sets of experiments. One command runs all experiments of a set.

`.lab/sets/<set id>/set.json` lists the experiments with their digests. Each experiment has a run of its own. The
manifest of each run names its set and its position in the set. So a set that is continued after a crash finds its runs.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from relab.core.atomic_files import replacing
from relab.core.clock import Clock, format_time
from relab.core.ids import check_id
from relab.core.json import digest
from relab.experiments.config.paths import LAB, SETS, runs_folder
from relab.experiments.config.set_file import is_set_file as is_set_file  # noqa: PLC0414 part of this service
from relab.experiments.config.set_file import read_set
from relab.experiments.errors import ExperimentInvalidError, RunChangedError, RunNotFoundError, damaged
from relab.experiments.models import (
    Command,
    ContinueOptions,
    ExperimentRunSummary,
    Keep,
    OnResult,
    RunOptions,
    RunProgress,
    StopSwitch,
)
from relab.experiments.plan.resolve import Resolved
from relab.experiments.records.file_names import MANIFEST
from relab.experiments.records.journal import read_journal
from relab.experiments.records.run_folder import locked, new_run_id, open_run
from relab.experiments.results.compare import VariantComparison, compare
from relab.experiments.results.integrity import check_compared
from relab.experiments.results.run_metadata import COMPLETED, read_facts
from relab.experiments.running import ExperimentRuns
from relab.experiments.trial.wire import write_json
from relab.stats.intervals import LEVEL
from relab.stats.verdicts import Verdict, worst

RECORD: Final = "set.json"


@dataclass(frozen=True)
class SetEntry:
    """One experiment of a set.

    Attributes:
        index: the position of the experiment in the set, from 0.
        path: the experiment file.
        experiment: the id of the experiment.
        digest: the digest of the experiment and its data set at the start of the set.
        run_dir: the folder of the experiment's run; None if it has not begun.
        is_finished: whether no trial of that run is left to run.
    """

    index: int
    path: Path
    experiment: str
    digest: str
    run_dir: Path | None = None
    is_finished: bool = False


@dataclass(frozen=True)
class ExperimentSet:
    """A set of experiments of one project.

    Attributes:
        folder: the folder with the set's record.
        options: the options with which each experiment is run.
    """

    set_id: str
    folder: Path
    options: RunOptions
    entries: Sequence[SetEntry]


@dataclass(frozen=True)
class SetComparison:
    """The verdict on a set: the worst of the verdicts on its runs.

    Attributes:
        level: the confidence level of the intervals in each run, from 0 to 1. It is 0.95 for one run, and higher for
            several runs (Bonferroni). So all intervals contain the true differences with a probability of at least 95 %.
        runs: `(id of the experiment, verdict on its run)`.
    """

    set_id: str
    verdict: Verdict
    reason: str
    level: float
    runs: Sequence[tuple[str, VariantComparison]]

    def to_json(self) -> dict[str, Any]:
        """Return the verdict on the set of experiments as a JSON object."""
        return {
            "set_id": self.set_id,
            "verdict": self.verdict.value,
            "reason": self.reason,
            "level_of_each_run": self.level,
            "runs": [{"experiment": name, **found.to_json()} for name, found in self.runs],
        }


class ExperimentSets:
    """Runs, continues and compares sets of experiments.

    Args:
        runs: runs single experiments.
        clock: the source of the times in records.
    """

    def __init__(self, runs: ExperimentRuns, clock: Clock) -> None:
        self._runs = runs
        self._clock = clock

    def open(self, paths: Sequence[Path], options: RunOptions, name: str | None = None) -> ExperimentSet:
        """Check all experiments of a set, and record the set; return the recorded set if it exists already.

        Args:
            paths: experiment files, and files that list experiments.
            options: the options with which each experiment is run.
            name: the id of the set; None for the id in a file that lists experiments or, if it has none, a new id.

        Raises:
            ExperimentInvalidError: an experiment is invalid, or the experiments belong to several projects.
            PostureRefusedError: an experiment isolates its trials less than is required.
            RunChangedError: a set with this id exists with other experiments.
        """
        listed, named = read_set(paths)
        set_id = _check_name(name or named or new_run_id(self._clock.now_us()).replace("run_", "set_", 1))
        resolved = [self._runs.prepare(path, options) for path in listed]
        root = _common_root(resolved)
        folder = root / LAB / SETS / set_id
        entries = [
            SetEntry(index, item.path.absolute(), item.config.experiment.id, _digest_of(item))
            for index, item in enumerate(resolved)
        ]
        if (folder / RECORD).is_file():
            found = self.find(root, folder)
            _check_same(found, entries)
            return found
        folder.mkdir(parents=True, exist_ok=True)
        made = ExperimentSet(set_id, folder, options, entries)
        with replacing(folder / RECORD) as fresh:
            write_json(fresh, self._record(made, root))
        return self._with_runs(made, root)

    def find(self, root: Path, named: Path) -> ExperimentSet:
        """Return a set with the state of its runs; `named` is the id or the folder of the set.

        Raises:
            RunNotFoundError: the project has no such set.
            RunDamagedError: the record of the set cannot be read.
        """
        folder = find_set(root, named)
        if folder is None:
            raise RunNotFoundError(f"There is no set {str(named)!r}.", remedy="The sets of a project are in .lab/sets.")
        path = folder / RECORD
        project = folder.parents[2]
        try:
            record = json.loads(path.read_bytes())
            options = RunOptions(
                Command.RUN,
                record["container"],
                None if record["overrides"] is None else Path(record["overrides"]),
                keep=Keep(record["keep_workspaces"]),
                result_cache=record.get("result_cache"),
            )
            entries = [
                SetEntry(index, project / item["path"], item["experiment"], item["digest"])
                for index, item in enumerate(record["experiments"])
            ]
            found = ExperimentSet(check_id(record["set_id"]), folder, options, entries)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise damaged(path, f"cannot be read: {error}") from error
        return self._with_runs(found, project)

    def locked(self, found: ExperimentSet) -> AbstractContextManager[None]:
        """Return a context manager that holds the lock of a set, so that no other process runs the set's experiments.

        Raises:
            RunBusyError: another process works on the set.
        """
        return locked(found.folder)

    def run(
        self,
        found: ExperimentSet,
        entry: SetEntry,
        stop: StopSwitch,
        on_result: OnResult,
        options: ContinueOptions,
    ) -> ExperimentRunSummary:
        """Run one experiment of a set to its end, and return the summary of its run.

        An interrupted run is continued; a finished run is not repeated.

        Args:
            found: the set; the caller must hold its lock (`locked`).
            entry: the experiment.
            stop: when pressed, stops the run.
            on_result: is called after each trial.
            options: the executor, and the ceilings (limits) of each single run.

        Raises:
            RunChangedError: the run has not begun, and the experiment was changed since the set began. Or the run was
                interrupted, the project was changed since the run began, and the run's snapshot is missing.
            RelabError: the experiment cannot be run.
        """
        if entry.run_dir is not None and entry.is_finished:
            return _summary_of(entry.run_dir)
        if entry.run_dir is not None:
            return self._runs.continue_run(entry.run_dir, stop, on_result, options)
        begun = replace(
            found.options,
            executor=options.executor,
            address=options.address,
            ceilings=options.ceilings,
            member=(found.set_id, entry.index),
        )
        resolved = self._runs.prepare(entry.path, begun)
        if _digest_of(resolved) != entry.digest:
            raise _changed(found, entry)
        return self._runs.run(resolved, begun, stop, on_result)

    def warnings(self, found: ExperimentSet, entry: SetEntry) -> Sequence[str]:
        """Return the warnings about an experiment whose run has not begun; empty if the run has begun."""
        return () if entry.run_dir is not None else self._runs.prepare(entry.path, found.options).warnings

    def extent(self, found: ExperimentSet, entry: SetEntry) -> tuple[int, int]:
        """Return `(number of planned trials, number of trials with a result)` of one experiment of a set."""
        if entry.run_dir is not None:
            return self._runs.extent(entry.run_dir)
        return len(self._runs.prepare(entry.path, found.options).plan), 0

    def compare(
        self,
        found: ExperimentSet,
        *,
        baseline: str | None = None,
        metrics: Sequence[str] = (),
        gates: Sequence[str] = (),
    ) -> SetComparison:
        """Compare the variants of each run of a set with the baseline; the verdict on the set is the worst one.

        The confidence level is corrected for the number of runs (Bonferroni).

        Args:
            found: the set.
            baseline: the id of the variant to compare with in each run; None for each configuration's baseline.
            metrics: metrics in which a variant must be better; without `metrics` and `gates`, the primary metrics.
            gates: conditions on the differences from the baseline, such as `success>=-0.02`.

        Raises:
            GateInvalidError: a gate cannot be parsed.
            RunDamagedError: a file of a run was changed.
        """
        level = 1 - (1 - LEVEL) / len(found.entries)
        judged = []
        for entry in found.entries:
            if entry.run_dir is None:
                name = baseline or ""
                judged.append((entry, VariantComparison("", name, Verdict.INVALID, "the experiment has not been run")))
                continue
            check_compared(read_facts(entry.run_dir))
            verdict = compare(entry.run_dir, baseline=baseline, metrics=metrics, gates=gates, level=level)
            judged.append((entry, verdict))
        # Differences are not averaged: the runs have different tasks, and metrics of different meaning.
        overall = worst([each.verdict for _, each in judged])
        decisive, decided = next((entry, each) for entry, each in judged if each.verdict is overall)
        reason = f"{decisive.experiment}: {decided.reason}"
        return SetComparison(found.set_id, overall, reason, level, [(entry.experiment, each) for entry, each in judged])

    def _record(self, made: ExperimentSet, root: Path) -> dict[str, Any]:
        options = made.options
        return {
            "schema_version": "experiment_set_v1",
            "set_id": made.set_id,
            "created_at": format_time(self._clock.now_us()),
            "container": options.container,
            "overrides": None if options.overrides is None else str(options.overrides.absolute()),
            "keep_workspaces": options.keep.value,
            "result_cache": options.result_cache,
            "experiments": [
                {"path": str(entry.path.relative_to(root)), "experiment": entry.experiment, "digest": entry.digest}
                for entry in made.entries
            ],
        }

    def _with_runs(self, found: ExperimentSet, root: Path) -> ExperimentSet:
        """Return a copy of the set, with `run_dir` and `is_finished` of each experiment whose run has begun."""
        runs = dict(_runs_of(root, found.set_id))
        entries = [
            replace(entry, run_dir=path, is_finished=open_run(path).status() == COMPLETED)
            if path is not None
            else entry
            for entry in found.entries
            for path in [runs.get(entry.index)]
        ]
        return replace(found, entries=entries)


def find_set(root: Path, named: Path) -> Path | None:
    """Return the folder of a set of experiments of the project at `root`; None if there is no such set.

    `named` is the id or the folder of the set.
    """
    # Without `..`, because the parents of the folder lead to the project.
    candidates = (Path(os.path.normpath(named.absolute())), root.absolute() / LAB / SETS / named)
    return next((path for path in candidates if (path / RECORD).is_file()), None)


def _check_name(name: str) -> str:
    try:
        return check_id(name)
    except ValueError as error:
        raise ExperimentInvalidError(f"{name!r} cannot be the id of a set: {error}.") from error


def _common_root(resolved: Sequence[Resolved]) -> Path:
    roots = {item.root for item in resolved}
    if len(roots) > 1:
        raise ExperimentInvalidError(
            f"The experiments are of several projects: {', '.join(map(str, sorted(roots)))}.",
            remedy="Run a set for each project, or put the experiment files below one .lab/.",
        )
    return roots.pop()


def _digest_of(resolved: Resolved) -> str:
    return digest([resolved.config.resolved(), resolved.tasks.digest])


def _check_same(found: ExperimentSet, entries: Sequence[SetEntry]) -> None:
    """Check that the experiments of a command (`entries`) equal the experiments of the recorded set `found`.

    Raises:
        RunChangedError: an experiment was added, removed or changed.
    """
    if [entry.path for entry in found.entries] != [entry.path for entry in entries]:
        raise RunChangedError(
            f"The set {found.set_id!r} exists with other experiments: {', '.join(entry.experiment for entry in found.entries)}.",
            remedy="Give another name with --set.",
        )
    for old, new in zip(found.entries, entries, strict=True):
        if old.digest != new.digest:
            raise _changed(found, old)


def _changed(found: ExperimentSet, entry: SetEntry) -> RunChangedError:
    return RunChangedError(
        f"{entry.path} or its data set was changed since the set {found.set_id!r} began.",
        remedy="Undo the change, or give another name with --set.",
    )


def _runs_of(root: Path, set_id: str) -> Iterator[tuple[int, Path]]:
    """Yield `(position in the set, folder)` of each run of the set `set_id`, the oldest run first."""
    for path in sorted(runs_folder(root).glob(f"*/{MANIFEST}")):
        try:
            member = json.loads(path.read_bytes())["ext"].get("set")
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            # A damaged run belongs to no set; the commands that read it name the damage.
            continue
        if isinstance(member, Mapping) and member.get("set_id") == set_id and type(member.get("index")) is int:
            yield member["index"], path.parent


def _summary_of(run_dir: Path) -> ExperimentRunSummary:
    """Return the summary of a finished run from its journal."""
    run = open_run(run_dir)
    progress = RunProgress(run.facts["total_trials"])
    for entry in read_journal(run_dir):
        progress.note(entry)
    return ExperimentRunSummary(
        run.run_id,
        run_dir,
        progress.total,
        progress.done,
        True,
        {variant: dict(counts) for variant, counts in progress.outcomes.items() if counts},
        0,
        0,
        None,
        list(run.facts["warnings"]),
        list(progress.problems.values()),
        cached=progress.cached,
    )

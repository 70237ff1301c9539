"""Experiments: what the edges may ask for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from relab.core.clock import Clock
from relab.experiments import cleaning, knobs, listing, schemas, skeleton
from relab.experiments.cleaning import Cleaning as Cleaning  # noqa: PLC0414 told to others from here
from relab.experiments.compare import Comparison, parse_gates
from relab.experiments.compare import compare as compare_run
from relab.experiments.errors import ExperimentInvalidError
from relab.experiments.integrity import check_compared, damage_of_run
from relab.experiments.models import OnResult, RunOptions, RunSummary, StopSwitch
from relab.experiments.resolve import Resolved
from relab.experiments.run_facts import read_facts
from relab.experiments.run_folder import open_run
from relab.experiments.running import ExperimentRuns
from relab.experiments.schema_check import check_file
from relab.telemetry.service import TelemetryService


class ExperimentService:
    """Use cases of experiments. Everything but telemetry lies in the project's own folder.

    Args:
        clock: tells the time of manifests and rows.
        telemetry: takes each trial as an agent run; None keeps trials out of telemetry.
        environment: of the runner: the source of what the harness is given, by name; None is this process's.
    """

    def __init__(
        self, clock: Clock, telemetry: TelemetryService | None = None, environment: Mapping[str, str] | None = None
    ) -> None:
        self._clock = clock
        self._runs = ExperimentRuns(clock, telemetry, environment)

    def init(self, root: Path, *, workload_type: str, container: bool) -> Sequence[Path]:
        """Write the skeleton of an experiment; return the files.

        Raises:
            ExperimentInvalidError: there is one already, or the folder cannot be written.
        """
        return skeleton.write_experiment(root, workload_type=workload_type, container=container)

    def describe(
        self, path: Path, overrides: Path | None = None, *, container: bool = False, gates: Sequence[str] = ()
    ) -> dict[str, Any]:
        """Return the plan of an experiment, without running anything, and whether it can decide these gates.

        Raises:
            ExperimentInvalidError, PostureRefusedError: it cannot be run as it is.
            GateInvalidError: a gate cannot be read.
        """
        return self._runs.describe(path, overrides, container=container, gates=parse_gates(gates))

    def prepare(self, path: Path, options: RunOptions) -> Resolved:
        """Read an experiment that is about to run; nothing is written.

        Raises:
            ExperimentInvalidError, PostureRefusedError: it cannot be run as it is.
        """
        return self._runs.prepare(path, options)

    def run(self, resolved: Resolved, options: RunOptions, stop: StopSwitch, on_result: OnResult) -> RunSummary:
        """Run an experiment to its end, or until stopped.

        Raises:
            SandboxUnavailableError: its room cannot be made here.
            DiskFullError: there is no room.
        """
        return self._runs.run(resolved, options, stop, on_result)

    def extent(self, run_dir: Path) -> tuple[int, int]:
        """Return how many trials a run has, and how many of them have a result.

        Raises:
            RunNotFoundError, RunChangedError: the folder is no run, or is not as it was.
        """
        return self._runs.extent(run_dir)

    def continue_run(self, run_dir: Path, stop: StopSwitch, on_result: OnResult) -> RunSummary:
        """Run what a run has no result for: after a crash, or after it was stopped.

        Raises:
            RunNotFoundError, RunBusyError, RunChangedError: it cannot be continued.
        """
        return self._runs.continue_run(run_dir, stop, on_result)

    def compare(
        self,
        root: Path,
        named: Path,
        *,
        baseline: str | None = None,
        metrics: Sequence[str] = (),
        gates: Sequence[str] = (),
    ) -> Comparison:
        """Judge the variants of a run that is named by its folder or its id.

        Raises:
            RunNotFoundError: there is no such run.
            RunDamagedError: a file that is read is not what the run has written.
            GateInvalidError: a gate cannot be read.
        """
        run_dir = listing.find_run(root, named)
        check_compared(read_facts(run_dir))
        return compare_run(run_dir, baseline=baseline, metrics=metrics, gates=gates)

    def list_runs(self, root: Path) -> list[dict[str, Any]]:
        """Return the runs of a project, newest first."""
        return listing.list_runs(root)

    def show_run(self, root: Path, named: Path) -> dict[str, Any]:
        """Return what a run was and what became of it.

        Raises:
            RunNotFoundError: there is no such run.
        """
        return listing.show_run(root, named)

    def damage_of_run(self, root: Path, named: Path) -> tuple[Path, list[str]]:
        """Check every file of a run, also those of its trials; return its folder and what is wrong, one sentence each.

        Raises:
            RunNotFoundError: there is no such run.
        """
        run_dir = open_run(listing.find_run(root, named)).path
        return run_dir, damage_of_run(run_dir)

    def plan_cleaning(
        self,
        root: Path,
        named: Sequence[Path] = (),
        *,
        init: bool = False,
        runs: bool = False,
        older_than_us: int | None = None,
    ) -> Cleaning:
        """Return what would be deleted of a project: named runs, runs created longer ago than this, all of them, `init`.

        Raises:
            InvalidInputError: nothing is named, or runs are named in two ways.
            RunNotFoundError: this project has no such run.
            RunBusyError: a process is at work on one of the runs.
        """
        before_us = None if older_than_us is None else self._clock.now_us() - older_than_us
        return cleaning.plan_cleaning(root, named, init=init, runs=runs, before_us=before_us)

    def clean(self, planned: Cleaning) -> Sequence[Path]:
        """Delete what was planned; return it.

        Raises:
            RunBusyError: a process is at work on one of the runs; nothing is deleted then.
        """
        return cleaning.clean(planned)

    def init_knobs(self, root: Path) -> Sequence[Path]:
        """Write a manifest of knobs and overrides that set none; return the files.

        Raises:
            ExperimentInvalidError: they are there already.
        """
        return skeleton.write_knobs(root)

    def validate_schema(self, file: Path, name: str | None = None) -> tuple[str, int]:
        """Check a file against the schema of a document; return the schema's name and how many documents were checked.

        Raises:
            ExperimentInvalidError: there is no such schema or file, or a document is not as it must be.
        """
        return check_file(file, name)

    def schema(self, name: str) -> dict[str, Any]:
        """Return the JSON Schema of a document.

        Raises:
            ExperimentInvalidError: there is none of this name.
        """
        found = schemas.schema_of(name)
        if found is None:
            raise ExperimentInvalidError(
                f"There is no schema {name!r}.", remedy=f"One of: {', '.join(schemas.schema_names())}."
            )
        return found

    def validate_knobs(
        self, root: Path, overrides: Path, manifest: Path | None = None
    ) -> Sequence[tuple[knobs.Knob, Any]]:
        """Return each knob that overrides set, with its value.

        Raises:
            ExperimentInvalidError: a value is for no knob, of another type, or out of bounds.
        """
        return knobs.load_overrides(overrides, root, manifest)

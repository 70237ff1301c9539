"""Use cases of experiments: run experiments, compare, rescore and check runs, pause trials, and delete runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from relab.core.clock import Clock
from relab.experiments import rescoring
from relab.experiments.config.knobs import load_overrides
from relab.experiments.config.starter_files import write_experiment, write_knobs
from relab.experiments.models import StopSwitch
from relab.experiments.pausing import PauseAnswer, pause_trials
from relab.experiments.records import cleaning
from relab.experiments.records.cleaning import Cleaning, clean
from relab.experiments.records.run_folder import open_checked_run, open_run
from relab.experiments.rescoring import Rescored, Scorer, rescored_folder
from relab.experiments.results.compare import VariantComparison
from relab.experiments.results.compare import compare as compare_run
from relab.experiments.results.hooks import validate_hooks
from relab.experiments.results.integrity import check_compared, damage_of_run
from relab.experiments.results.listing import find_run, list_runs, show_run
from relab.experiments.results.run_metadata import read_facts
from relab.experiments.results.trial_views import diff_trials, list_trials, show_trial
from relab.experiments.running_forks import ForkRuns
from relab.experiments.schemas.check import check_file
from relab.experiments.schemas.documents import schema_named
from relab.experiments.sets import ExperimentSets
from relab.experiments.trial.result_cache import whole_cache

if TYPE_CHECKING:
    from relab.telemetry.service import TelemetryService

__all__ = [
    "Cleaning",
    "ExperimentService",
    "PauseAnswer",
    "Scorer",
    "VariantComparison",
    "check_file",
    "clean",
    "diff_trials",
    "find_run",
    "list_runs",
    "list_trials",
    "load_overrides",
    "pause_trials",
    "schema_named",
    "show_run",
    "show_trial",
    "validate_hooks",
    "write_experiment",
    "write_knobs",
]


class ExperimentService:
    """Runs, compares and deletes experiments. All data except telemetry is in the project's own folder.

    Args:
        clock: the source of the times in manifests and in the rows with the results of trials.
        telemetry: stores each trial as an agent run; None to store none.
        environment: the runner's environment variables; None for the variables of this process. A harness gets only
            those that its experiment names, as variables or as secrets.
        signing_key: the file of the key that signs each run at its end, created if missing; None to sign nothing.

    Attributes:
        runs: runs and continues experiments; replays and forks trials.
        sets: runs and compares sets of experiments.
    """

    def __init__(
        self,
        clock: Clock,
        telemetry: TelemetryService | None = None,
        environment: Mapping[str, str] | None = None,
        signing_key: Path | None = None,
    ) -> None:
        self._clock = clock
        self.runs = ForkRuns(clock, telemetry, environment, signing_key)
        self.sets = ExperimentSets(self.runs, clock)

    def compare(
        self,
        root: Path,
        named: Path,
        *,
        baseline: str | None = None,
        metrics: Sequence[str] = (),
        gates: Sequence[str] = (),
        scores: str | None = None,
    ) -> VariantComparison:
        """Judge the variants of a run against the baseline.

        Args:
            root: the folder of the project.
            named: the run's folder or its id.
            baseline: the id of the variant to compare with; None for the configuration's baseline.
            metrics: metrics in which a variant must be better than the baseline; the primary metrics if neither
                `metrics` nor `gates` are given.
            gates: conditions on the differences from the baseline, such as `success>=-0.02` or `latency_ms<=5%`.
            scores: the name of the scores to compare, which `rescore` has stored; None for the run's own outcomes and
                metrics.

        Raises:
            InvalidInputError: the run has no scores of this name.
            RunNotFoundError: there is no such run.
            RunDamagedError: a file that the comparison reads was changed after the run wrote it.
            GateInvalidError: a gate cannot be parsed.
        """
        run_dir = find_run(root, named)
        facts = read_facts(run_dir)
        if scores is not None:
            run_dir = rescored_folder(root, facts.run_id, scores)
        else:
            check_compared(facts)
        return compare_run(run_dir, baseline=baseline, metrics=metrics, gates=gates)

    def rescore(self, root: Path, named: Path, scorer: Scorer, stop: StopSwitch) -> Rescored:
        """Score the finished trials of a run by another scorer, without running them; the run is not changed.

        Args:
            root: the folder of the project.
            named: the run's folder or its id.
            scorer: the scorer and the name of its scores.
            stop: when pressed, ends the running scorers, and no scores are stored.

        Raises:
            RunNotFoundError, RunDamagedError: there is no such run, or a file of the run was changed.
            InvalidInputError, ScoresExistError: the scorer cannot be run, or there are scores of this name.
            KeyboardInterrupt: `stop` was pressed.
        """
        run = open_checked_run(find_run(root, named))
        return rescoring.rescore(run, root, scorer, clock=self._clock, stop=stop)

    def variants(self, root: Path, named: Path) -> tuple[str, ...]:
        """Return the ids of the variants of a run, the baseline first.

        Args:
            root: the folder of the project.
            named: the folder or the id of the run.

        Raises:
            RunNotFoundError: there is no such run.
            RunDamagedError: a file of the run was changed or is missing.
        """
        return tuple(read_facts(find_run(root, named)).variants)

    def damage_of_run(self, root: Path, named: Path) -> tuple[Path, list[str]]:
        """Check every file of a run and its trials; return the run's folder and a sentence for each damage found.

        `named` is the run's folder or its id.

        Raises:
            RunNotFoundError: there is no such run.
        """
        run_dir = open_run(find_run(root, named)).path
        return run_dir, damage_of_run(run_dir)

    def list_cache(self, root: Path) -> list[dict[str, Any]]:
        """Return the entries of the result cache of the project at `root`, as JSON, the most recently used first."""
        return [entry.to_json() for entry in whole_cache(root, self._clock).entries()]

    def clear_cache(self, root: Path, *, older_than_us: int = 0) -> int:
        """Delete trial results from the result cache of the project at `root`; return their number.

        A result is deleted if its last use is at least `older_than_us` microseconds ago; with 0, all are deleted.
        """
        return whole_cache(root, self._clock).remove(self._clock.now_us() - older_than_us)

    def plan_cleaning(
        self,
        root: Path,
        named: Sequence[Path] = (),
        *,
        init: bool = False,
        runs: bool = False,
        older_than_us: int | None = None,
    ) -> Cleaning:
        """Return the files that `clean` would delete; delete nothing.

        Only one of `named`, `runs` and `older_than_us` may be given.

        Args:
            root: the folder of the project.
            named: select these runs, by id or folder.
            init: select the files that `lab init` and `lab knobs-init` wrote.
            runs: select all runs, the whole cache (snapshots of the project, results of trials, answers of models),
                replays, scores from `rescore`, and records of sets of experiments.
            older_than_us: select the runs that are older than this number of microseconds.

        Raises:
            InvalidInputError: nothing is selected, or runs are selected in two ways.
            RunNotFoundError: this project has no such run.
            RunBusyError: a process works on one of the runs.
        """
        before_us = None if older_than_us is None else self._clock.now_us() - older_than_us
        return cleaning.plan_cleaning(root, named, init=init, runs=runs, before_us=before_us)

"""Use cases of experiments with single trials: pause, replay, fork, look at them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from relab.experiments import pausing
from relab.experiments.errors import TrialStopped
from relab.experiments.forking import PlannedFork
from relab.experiments.models import ExperimentRunSummary, ForkOptions, OnResult, StopSwitch
from relab.experiments.pausing import PauseAnswer
from relab.experiments.records.run_folder import open_run
from relab.experiments.replaying import Replayed
from relab.experiments.results import listing, trial_views
from relab.experiments.running_forks import ForkRuns


class TrialUseCases:
    """The use cases with single trials; a part of `ExperimentService`.

    Args:
        runs: runs experiments and forks.
    """

    def __init__(self, runs: ForkRuns) -> None:
        self._runs = runs

    def pause(
        self,
        run_dir: Path,
        trials: Sequence[str] = (),
        *,
        label: str | None = None,
        timeout_s: float = 60.0,
        on_asked: Callable[[str], None] = lambda _trial_id: None,
    ) -> list[PauseAnswer]:
        """Ask the process that works on a run to pause trials, and wait until they are paused or have ended.

        Args:
            run_dir: the folder of the run.
            trials: the ids of the trials; empty to pause the whole run.
            label: a name for the checkpoint; None without one.
            timeout_s: seconds after which a harness that has not stopped is ended.
            on_asked: is called with the id of each trial that has been asked.

        Raises:
            InvalidInputError: the label or the time-out is out of range.
            RunNotFoundError, RunNotRunningError: there is no such run, or no process works on it.
            TrialNotFoundError, TrialStateError: a trial does not exist, does not run, or is being paused already.
        """
        return pausing.pause(open_run(run_dir), trials, label=label, timeout_s=timeout_s, on_asked=on_asked)

    def replay(self, run_dir: Path, trial_id: str, stop: StopSwitch, *, strict: bool = False) -> Replayed | None:
        """Run a trial of a run again in a folder of its own, and compare it with its result; the run is not changed.

        None if `stop` was pressed before the trial ended.

        Args:
            run_dir: the folder of the run.
            trial_id: the id of a trial with a result.
            stop: ends the replay when pressed.
            strict: whether to refuse a trial that cannot be expected to repeat itself.

        Raises:
            RunNotFoundError, TrialNotFoundError, TrialStateError: there is no such trial, or it cannot be replayed.
            RunDamagedError, RunChangedError: an artifact was changed or is gone.
            RunDiskFullError: the disk is full.
            ExperimentInvalidError: a secret is not set.
            SandboxUnavailableError: this machine cannot provide the sandbox.
        """
        try:
            return self._runs.replay(run_dir, trial_id, stop, strict=strict)
        except TrialStopped:
            return None

    def plan_fork(self, run_dir: Path, options: ForkOptions) -> PlannedFork:
        """Choose the trials to fork and their checkpoints, and check everything; write nothing.

        Args:
            run_dir: the folder of the run of the parents.
            options: which trials, from which point, and with which bindings.

        Raises:
            RunNotFoundError, TrialNotFoundError, TrialStateError: there is no such run or trial, or it cannot be forked.
            ForkInvalidError, SelectorUnmatchedError: an option is invalid, or the selector matches no checkpoint.
            CheckpointMissingError, CheckpointInvalidError: the file of a checkpoint is gone, or cannot be used.
            RunDamagedError: a record of the run was changed.
        """
        return self._runs.plan_fork(run_dir, options)

    def fork(
        self, planned: PlannedFork, options: ForkOptions, stop: StopSwitch, on_result: OnResult
    ) -> ExperimentRunSummary:
        """Run planned forks in a run of their own, and return its summary; the run of the parents is not changed.

        Args:
            planned: the forks, from `plan_fork`.
            options: the options that they were planned with.
            stop: stops the run.
            on_result: called after each trial with its result and the progress of the run.

        Raises:
            RunChangedError: the project's snapshot is gone from the cache, or the image is another one.
            SandboxUnavailableError: this machine cannot provide the sandbox.
            RunDiskFullError: the disk is full.
        """
        return self._runs.fork(planned, options, stop, on_result)

    def list_trials(
        self,
        root: Path,
        named: Path,
        *,
        outcome: str | None = None,
        variant: str | None = None,
        task: str | None = None,
    ) -> list[dict[str, Any]]:
        """Return the trials of a run that have a result, in the order in which they ended, as JSON.

        Args:
            root: the folder of the project.
            named: the run's folder or its id.
            outcome: only trials with this outcome.
            variant: only trials of the variant with this id.
            task: only trials of the task with this id.

        Raises:
            RunNotFoundError: there is no such run.
            RunDamagedError: the journal is damaged.
        """
        run = open_run(listing.find_run(root, named))
        return trial_views.list_trials(run, outcome=outcome, variant=variant, task=task)

    def show_trial(self, root: Path, named: str) -> dict[str, Any]:
        """Return a trial as JSON: its row, documents, last events, end of its output, changed files, and why it ended so.

        `named` is `<run>.<trial>`, or the folder of the trial.

        Raises:
            RunNotFoundError, TrialNotFoundError: there is no such run or trial.
            RunDamagedError: a record of the run is damaged.
        """
        return trial_views.show_trial(root, named)

    def diff_trials(self, root: Path, first: str, second: str) -> dict[str, Any]:
        """Return how the trials `first` and `second` differ, as JSON: outcomes, metrics, answers, events and changed files.

        Raises:
            RunNotFoundError, TrialNotFoundError: there is no such run, or a trial has no result.
            RunDamagedError: a record of a run is damaged.
        """
        return trial_views.diff_trials(root, first, second)

"""Run trials of a finished run again: as forks in a new run, or as replays."""

from __future__ import annotations

from pathlib import Path

from relab.core.clock import format_time
from relab.core.json import digest
from relab.experiments.config.paths import runs_folder
from relab.experiments.errors import TrialStopped
from relab.experiments.forking import PlannedFork, plan_fork
from relab.experiments.models import ExperimentRunSummary, ForkOptions, OnResult, StopSwitch
from relab.experiments.records.file_names import PARENTS
from relab.experiments.records.run_folder import (
    begin_run,
    check_room,
    disk_errors_of,
    locked,
    make_writable,
    new_run_id,
    open_checked_run,
)
from relab.experiments.records.run_snapshot import check_image, kept_snapshot
from relab.experiments.replaying import Replayed, replay
from relab.experiments.results.provenance import fork_manifest
from relab.experiments.running import ExperimentRuns


class ForkRuns(ExperimentRuns):
    """Runs experiments, and runs their trials again: as forks (from a checkpoint) in a new run, or as replays."""

    def replay(self, run_dir: Path, trial_id: str, stop: StopSwitch, *, strict: bool = False) -> Replayed | None:
        """Run a trial again in a new folder, and compare the new result with the old one; the run is not changed.

        Return None if the trial did not start, or did not end, because of `stop`.

        Args:
            run_dir: the folder of the run.
            trial_id: the id of a trial with a result.
            stop: the first press prevents the start of the trial; the second press ends the running trial.
            strict: whether to reject a retried or paused trial, or a harness below the integration level `sdk_full`
                (the highest level).

        Raises:
            RunNotFoundError, TrialNotFoundError: the run or the trial does not exist.
            TrialStateError: the trial cannot be replayed, or `strict` rejects it.
            RunDamagedError, RunChangedError: a document of the trial, the project's snapshot or the image was changed
                or is gone.
            RunDiskFullError: the disk is full.
            ExperimentInvalidError: a secret is not set.
            SandboxUnavailableError: this machine cannot provide the sandbox.
        """
        run = open_checked_run(run_dir)
        try:
            return replay(run, trial_id, strict=strict, clock=self._clock, environment=self._environment, stop=stop)
        except TrialStopped:
            return None

    def plan_fork(self, run_dir: Path, options: ForkOptions) -> PlannedFork:
        """Plan a run of forks (new trials that begin at checkpoints of earlier trials); write nothing.

        Args:
            run_dir: the folder of the run that contains the earlier trials.
            options: which trials, from which point, and with which changed bindings (values that the harness gets).

        Raises:
            RunNotFoundError, TrialNotFoundError: there is no such run or trial.
            TrialStateError: a trial cannot be forked.
            ForkInvalidError, SelectorUnmatchedError: an option is invalid, or the selector matches no checkpoint.
            CheckpointMissingError, CheckpointInvalidError: the file of a checkpoint is gone, or cannot be used.
            CheckpointChangedError: the file of a checkpoint was changed after the end of the run.
            RunDamagedError: a record of the run was changed.
        """
        return plan_fork(open_checked_run(run_dir), options)

    def fork(
        self, planned: PlannedFork, options: ForkOptions, stop: StopSwitch, on_result: OnResult
    ) -> ExperimentRunSummary:
        """Run planned forks in a new run, and return its summary.

        A fork is a trial that begins at a checkpoint of an earlier trial. The run of the earlier trials is not changed.

        Args:
            planned: the planned run of forks, from `plan_fork`.
            options: the options of the command.
            stop: when pressed, stops the new run.
            on_result: is called after each trial.

        Raises:
            RunChangedError: the project's snapshot is gone from the cache, or the container image was changed.
            ExperimentInvalidError: a secret is not set.
            SandboxUnavailableError: this machine cannot provide the sandbox.
            RunDiskFullError: the disk is full.
        """
        now_us, parent, config = self._clock.now_us(), planned.parent, planned.config
        run_id, root = new_run_id(now_us), Path(parent.facts["project_root"])
        snapshot, tasks, runs = kept_snapshot(parent, root), parent.tasks(), runs_folder(root)
        with self._session(config, run_id, root, (options.executor, options.address), stop, on_result) as session:
            session.executor.prepare(runs / run_id)
            check_image(parent, session.executor.image_digest)
            make_writable(runs)
            sizes = [0 if each.file is None else each.file.size for each in planned.parents]
            check_room(
                runs,
                trials=planned.trials,
                at_once=config.design.max_concurrency,
                snapshot_bytes=snapshot.manifest.total_bytes,
                keep=options.keep,
                other_bytes=sum(sizes) * planned.trials // len(sizes),
            )
            changes = {
                "total_trials": planned.trials,
                "keep_workspaces": options.keep.value,
                "warnings": list(planned.warnings),
                "fork": dict(planned.facts),
            }
            manifest = fork_manifest(
                parent,
                run_id=run_id,
                created_at=format_time(now_us),
                digest=digest(config.resolved()),
                facts=changes,
            )
            with disk_errors_of(runs / run_id):
                files = {PARENTS: planned.parents_jsonl}
                run = begin_run(runs / run_id, run_id, config, parent.dataset, manifest, files)
            with locked(run.path):
                return self._run(session, run, snapshot, tasks.moved_to(run.dataset))

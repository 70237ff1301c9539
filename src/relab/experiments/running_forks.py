"""Run forks: from a planned fork to the folder of a finished run."""

from __future__ import annotations

from pathlib import Path

from relab.core.clock import format_time
from relab.core.json import digest
from relab.experiments.config.paths import runs_folder
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
from relab.experiments.results.provenance import fork_manifest
from relab.experiments.running import ExperimentRuns


class ForkRuns(ExperimentRuns):
    """Runs experiments, and forks of their trials in runs of their own."""

    def plan_fork(self, run_dir: Path, options: ForkOptions) -> PlannedFork:
        """Plan the fork of trials of a run; read only; see `forking.plan_fork`."""
        return plan_fork(open_checked_run(run_dir), options)

    def fork(
        self, planned: PlannedFork, options: ForkOptions, stop: StopSwitch, on_result: OnResult
    ) -> ExperimentRunSummary:
        """Run planned forks in a run of their own, and return its summary; the run of the parents is not changed.

        Args:
            planned: the forks.
            options: the options of the command.
            stop: ends the run early.
            on_result: is called after each trial.

        Raises:
            RunChangedError: the project's snapshot is gone from the cache, or the image is another one.
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

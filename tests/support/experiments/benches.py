"""Executors of one kind, opened for a small project."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from relab.core.clock import SystemClock
from relab.experiments.executors.protocol import Executor, ExecutorOptions
from relab.experiments.executors.registry import make_executor_of_run
from relab.experiments.models import StopSwitch
from relab.experiments.plan.resolve import Resolved, resolve
from relab.experiments.plan.trials import Trial, trial_at
from relab.experiments.trial.context import RunContext, RunSettings
from relab.experiments.workspace.snapshots import take_snapshot
from support.experiments.projects import Project


@dataclass
class Bench:
    """An open executor, and the trials of its project."""

    executor: Executor
    resolved: Resolved
    context: RunContext
    run_dir: Path
    stop: StopSwitch

    def trial(self, number: int, previous_id: str | None = None) -> Trial:
        """Return the trial at a position of the plan, counted from 1."""
        slot = self.resolved.plan.slot(number - 1)
        return trial_at(
            slot, self.resolved.config, self.resolved.tasks, run_id=self.context.run_id, previous_id=previous_id
        )


class Benches:
    """Opens executors of one kind and closes them after the test."""

    def __init__(self, name: str, folder: Path, address: str | None = None) -> None:
        self._address = address
        self.folder = folder
        self._name = name
        self._made: list[Executor] = []

    def open(self, harness: str, tasks: int = 3, **sections: Any) -> Bench:
        """Write a project with this harness, and return an open executor for it."""
        project = Project.make(self.folder, harness, tasks)
        project.configure(**sections)
        resolved = resolve(project.experiment)
        # A sandbox kills what earlier processes of its run have left, on the whole machine. Tests of other processes run there
        # at the same time, so their runs must have other ids.
        run_id = f"run_{os.getpid()}"
        run_dir, stop = project.root / ".lab" / "runs" / run_id, StopSwitch()
        settings = RunSettings(
            config=resolved.config,
            run_id=run_id,
            root=project.root,
            clock=SystemClock(),
            host_environment={},
            secrets={},
        )
        options = ExecutorOptions(
            settings=settings, stop=stop, on_spans=lambda _body, _encoding: None, address=self._address
        )
        executor = make_executor_of_run(self._name, options)
        self._made.append(executor)
        executor.prepare(run_dir)
        run_dir.mkdir(parents=True)
        context = RunContext(
            **vars(settings),
            run_dir=run_dir,
            snapshot=take_snapshot(project.root, project.root / ".lab" / "cache"),
            dataset=project.dataset.parent,
            harness_identity={"entry_command": ["x"]},
        )
        executor.open(context)
        return Bench(executor, resolved, context, run_dir, stop)

    def close(self) -> None:
        """Close all opened executors."""
        for executor in self._made:
            executor.close()

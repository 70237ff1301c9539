"""The interface of all executors of trials."""

from __future__ import annotations

from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from relab.experiments.models import StopSwitch, TrialResult
from relab.experiments.plan.trials import Trial
from relab.experiments.trial.context import RunContext, RunSettings
from relab.experiments.trial.otlp_exports import SpanSink
from relab.experiments.workspace.snapshots import ProjectSnapshot


@dataclass(frozen=True, kw_only=True)
class ExecutorOptions:
    """The values that an executor gets before the run's folder exists.

    Attributes:
        settings: the settings of the run.
        stop: the switch that stops the run.
        on_spans: is called with each OTLP export of a harness; several threads may call it at the same time.
        address: the address of a cluster; None for the default of the executor.
    """

    settings: RunSettings
    stop: StopSwitch
    on_spans: SpanSink
    address: str | None = None


class Executor(Protocol):
    """Runs the trials of one run. Call `prepare`, then `open`, then `submit` for each trial, and `close` in any case."""

    @property
    def capacity(self) -> int:
        """The largest number of trials that run at the same time."""

    def prepare(self, run_dir: Path) -> None:
        """Check that this executor can run trials, and clean up after an earlier process of the run.

        Leftover processes are ended, and leftover files are removed.

        Args:
            run_dir: the run's folder, which does not exist yet for a new run.

        Raises:
            SandboxUnavailableError: the sandbox does not work; the message says what to install or to change.
            ExecutorUnavailableError: the cluster of the executor cannot be used.
            ResultCacheUnusableError: the result cache cannot be used.
        """

    @property
    def image_digest(self) -> str | None:
        """The digest of the trials' container image; None before `prepare`, and if trials run without an image."""

    def run_setup(self, command: str, snapshot: ProjectSnapshot) -> ProjectSnapshot:
        """Run a shell command once in the trials' sandbox, in a copy of the project; return a snapshot of the result.

        Raises:
            ExperimentInvalidError: the command failed; the message contains the end of its output, without secrets.
            KeyboardInterrupt: the stop switch was pressed twice, so the command was ended.
        """

    def open(self, context: RunContext) -> None:
        """Store `context`, the values of the run that all trials share; trials can be submitted afterwards."""

    def submit(self, trial: Trial) -> Future[TrialResult]:
        """Start a trial at once if fewer than `capacity` trials are running; otherwise queue it.

        If the trial starts with the state of an earlier trial, the earlier trial must have ended.

        Returns:
            The future of the trial's result. A trial that ends with an error also has a result, with the outcome
                ERROR. The future raises an exception only if there is no result: the run was stopped (`TrialStopped`),
                the trial was paused (`TrialPaused`), its checkpoint or record cannot be used, or the disk is full.

        Raises:
            RuntimeError: the executor is closed.
        """

    def close(self) -> None:
        """Wait for the running trials, and release all resources. May be called at any time, and repeatedly."""

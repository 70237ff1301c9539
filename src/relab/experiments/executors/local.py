"""The executor that runs trials on this machine: a pool of threads. Each thread watches one trial in a sandbox.

Threads are enough, because a trial is a child process: its thread makes a few dozen system calls, and waits.
"""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from relab.experiments.config.limits import limits_of
from relab.experiments.config.models import ExperimentConfig
from relab.experiments.config.paths import LAB
from relab.experiments.errors import TrialStopped
from relab.experiments.executors.protocol import ExecutorOptions
from relab.experiments.models import TrialResult
from relab.experiments.plan.trials import Trial
from relab.experiments.sandbox.kinds import SandboxOptions
from relab.experiments.sandbox.stale_processes import end_stale_processes
from relab.experiments.trial.context import RunContext
from relab.experiments.trial.network_services import TrialNetwork
from relab.experiments.trial.redaction import Redactor
from relab.experiments.trial.runner import TrialRunner
from relab.experiments.trial.setup_command import run_setup
from relab.experiments.workspace.snapshots import ProjectSnapshot


class LocalExecutor:
    """Runs trials in threads of this process."""

    def __init__(self, options: ExecutorOptions) -> None:
        settings = options.settings
        self._settings = settings
        self._stop = options.stop
        self._redactor = Redactor(settings.secrets)
        self._network = TrialNetwork(settings.config, options.on_spans, self._redactor, settings.root / LAB / "cache")
        self._sandbox = settings.config.runtime.sandbox.mode.kind.make(
            sandbox_options(settings.config, settings.run_id)
        )
        self._trials: TrialRunner | None = None
        # The threads live until `close`, because a bubblewrap sandbox ends with the thread that started it.
        self._threads = ThreadPoolExecutor(self.capacity, thread_name_prefix="trial")

    @property
    def capacity(self) -> int:
        """The largest number of trials that run at the same time: `design.max_concurrency` of the experiment."""
        return self._settings.config.design.max_concurrency

    @property
    def image_digest(self) -> str | None:
        """The digest of the trials' container image; None before `prepare`, and if trials run without an image."""
        return self._sandbox.image_digest

    def prepare(self, run_dir: Path) -> None:
        """End the processes that an earlier, killed process of this run left behind, and prepare the sandbox.

        Raises:
            SandboxUnavailableError: this machine cannot provide the sandbox.
        """
        if run_dir.exists():
            end_stale_processes(run_dir)
        self._sandbox.prepare()

    def run_setup(self, command: str, snapshot: ProjectSnapshot) -> ProjectSnapshot:
        """Run a shell command in a copy of the project; return a snapshot of the result.

        Raises:
            ExperimentInvalidError: the command failed.
            KeyboardInterrupt: the stop switch was pressed twice.
        """
        return run_setup(command, self._settings, self._sandbox, snapshot, self._redactor, self._stop.now)

    def open(self, context: RunContext) -> None:
        """Store `context`, the values of the run that all trials share; trials can be submitted afterwards."""
        self._trials = TrialRunner(context, self._sandbox, self._network, self._redactor)

    def submit(self, trial: Trial) -> Future[TrialResult]:
        """Run a trial in a thread of the pool; return the future of its result."""
        assert self._trials is not None, "the executor is not open"
        return self._threads.submit(self._run, self._trials, trial)

    def close(self) -> None:
        """Wait for the running trials, end all processes that trials left running, and release the sandbox."""
        try:
            self._threads.shutdown(cancel_futures=True)
        finally:
            self._sandbox.close()

    def _run(self, trials: TrialRunner, trial: Trial) -> TrialResult:
        if self._stop.finish.is_set():
            raise TrialStopped
        return trials.run(trial, self._stop.now)


def sandbox_options(config: ExperimentConfig, run_id: str) -> SandboxOptions:
    """Return the options of the sandbox that an experiment configures.

    `run_id` marks the sandbox's containers, folders and control groups, so that a later process finds leftovers.
    """
    sandbox = config.runtime.sandbox
    return SandboxOptions(
        run_id=run_id,
        network=config.runtime.network.mode,
        limits=limits_of(config),
        image=sandbox.image,
        user=sandbox.run_as_user,
        read_only_root=sandbox.root_read_only,
        read_only_paths=tuple(sandbox.read_only_paths),
        no_new_privileges=sandbox.hardening.no_new_privileges,
        drop_all_caps=sandbox.hardening.drop_all_caps,
    )

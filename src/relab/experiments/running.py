"""Run experiments: from an experiment file to the folder of a finished run."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from relab.core.clock import Clock, parse_time
from relab.experiments.config.models import ExperimentConfig
from relab.experiments.config.paths import LAB, runs_folder
from relab.experiments.errors import ExperimentInvalidError, damaged
from relab.experiments.executors.protocol import Executor, ExecutorOptions
from relab.experiments.executors.registry import make_executor_of_run
from relab.experiments.models import (
    CONTINUE_ALL,
    ContinueOptions,
    ExperimentRunSummary,
    Keep,
    OnResult,
    RunOptions,
    RunProgress,
    StopSwitch,
    TrialResult,
)
from relab.experiments.pausing import check_paused, drop_requests, paused_trials
from relab.experiments.plan.dataset import TaskIndex
from relab.experiments.plan.resolve import Resolved, check_harness, describe, resolve
from relab.experiments.records.forks import plan_of_run, sources_of
from relab.experiments.records.journal import NAME, Journal, read_journal, withdrawn_entries
from relab.experiments.records.retrying import check_retryable, open_journal
from relab.experiments.records.run_folder import (
    RunFolder,
    begin_run,
    check_room,
    disk_errors_of,
    locked,
    make_writable,
    new_run_id,
    open_checked_run,
)
from relab.experiments.records.run_snapshot import drifts, record_drift, snapshot_of
from relab.experiments.records.seals import break_seal
from relab.experiments.records.sessions import (
    RunSpending,
    check_ceilings,
    configured_ceilings,
    note_session,
    read_sessions,
    session_begin,
    session_end,
)
from relab.experiments.results.finishing import finish_run
from relab.experiments.results.gates import parse_gates
from relab.experiments.results.planning_power import plan_power
from relab.experiments.results.provenance import manifest_of_new_run
from relab.experiments.results.telemetry_link import TelemetryLink
from relab.experiments.scheduling import PlanRunner
from relab.experiments.trial.context import RunContext, RunSettings
from relab.experiments.trial.redaction import secrets_of
from relab.experiments.workspace.snapshots import ProjectSnapshot, take_snapshot

if TYPE_CHECKING:
    from relab.telemetry.service import TelemetryService


class ExperimentRuns:
    """Runs experiments, and continues interrupted runs.

    Args:
        clock: the source of the times in manifests and rows.
        telemetry: stores each trial as an agent run; None to store none.
        environment: the runner's environment variables; the harness gets those that the experiment names; None for the
            environment of this process.
        signing_key: the file of the key that signs each run at its end; None to sign nothing.
    """

    def __init__(
        self,
        clock: Clock,
        telemetry: TelemetryService | None = None,
        environment: Mapping[str, str] | None = None,
        signing_key: Path | None = None,
    ) -> None:
        self._clock = clock
        self._telemetry = telemetry
        self._signing_key = signing_key
        self._environment = dict(os.environ if environment is None else environment)

    def describe(
        self, path: Path, overrides: Path | None = None, *, container: bool = False, gates: Sequence[str] = ()
    ) -> dict[str, Any]:
        """Return the plan of an experiment, and the statistical power of the plan for each gate, as JSON; run nothing.

        The key `harness_problem` says why the harness cannot be run; it is None if it can.

        Args:
            path: the experiment file.
            overrides: a file of values for knobs (fields that overrides may change); None for no overrides.
            container: whether to plan a run in containers, as with the option `--container`.
            gates: conditions on the differences from the baseline, such as `success>=-0.02`.

        Raises:
            ExperimentInvalidError: the file, the overrides or the data set is invalid.
            PostureRefusedError: `container` is set without an image, or the configuration violates its own sanitization
                profile (the conditions that must be equal for all trials).
            GateInvalidError: a gate cannot be parsed.
        """
        judged = parse_gates(gates)
        resolved = resolve(path, overrides=overrides, container=container)
        config = resolved.config
        power = plan_power(
            tasks=len(resolved.tasks),
            replications=config.design.replications,
            comparisons=len(config.variant_plan) * max(len(judged or config.analysis.primary_metrics), 1),
            gates=judged,
        )
        try:
            check_harness(resolved)
        except ExperimentInvalidError as error:
            return describe(resolved, power, harness_problem=str(error))
        return describe(resolved, power)

    def prepare(self, path: Path, options: RunOptions) -> Resolved:
        """Read and check the experiment in the file `path` before its run; write nothing.

        Raises:
            CeilingInvalidError: a ceiling (limit of the whole run) is negative or not finite.
            ExperimentInvalidError: the file, the overrides, the data set or the harness is invalid.
            PostureRefusedError: the configuration does not provide the isolation that the command requires.
        """
        check_ceilings(options.ceilings)
        resolved = resolve(
            path,
            command=options.command,
            container=options.container,
            overrides=options.overrides,
            result_cache=options.result_cache,
        )
        check_harness(resolved)
        return resolved

    def run(
        self, resolved: Resolved, options: RunOptions, stop: StopSwitch, on_result: OnResult
    ) -> ExperimentRunSummary:
        """Run an experiment until it ends, is paused, reaches a ceiling or `stop` is pressed; return its summary.

        `resolved` is the checked experiment from `prepare`. `options` are the options of the command. `on_result` is
        called after each trial.

        Raises:
            ExperimentInvalidError: a secret is not set, the project cannot be copied, or the setup command failed.
            SandboxUnavailableError, RunDiskFullError: this machine cannot provide the sandbox, or the disk is full.
            ExecutorUnavailableError, ResultCacheUnusableError: the executor or the result cache cannot be used.
        """
        now_us = self._clock.now_us()
        run_id = new_run_id(now_us)
        config, root = resolved.config, resolved.root
        runs = runs_folder(root)
        with self._session(config, run_id, root, (options.executor, options.address), stop, on_result) as session:
            session.executor.prepare(runs / run_id)
            snapshot = take_snapshot(root, root / LAB / "cache", config.runtime.workspace.ignore)
            if options.setup is not None:
                snapshot = session.executor.run_setup(options.setup, snapshot)
            make_writable(runs)
            check_room(
                runs,
                trials=len(resolved.plan),
                at_once=config.design.max_concurrency,
                snapshot_bytes=snapshot.manifest.total_bytes,
                keep=options.keep,
            )
            manifest = manifest_of_new_run(resolved, options, run_id, now_us, snapshot, session.executor.image_digest)
            with disk_errors_of(runs / run_id):
                run = begin_run(runs / run_id, run_id, config, resolved.tasks.path, manifest)
            tasks = resolved.tasks.moved_to(run.dataset)
            with locked(run.path):
                return self._run(session, run, snapshot, tasks, options=ContinueOptions(ceilings=options.ceilings))

    def extent(self, run_dir: Path) -> tuple[int, int]:
        """Return the number of planned trials of a run, and the number of its trials with a result.

        Raises:
            RunNotFoundError: the folder is not a run.
            RunChangedError: the run's files were changed.
        """
        run = open_checked_run(run_dir)
        return len(plan_of_run(run, len(run.tasks()))), sum(1 for _ in read_journal(run.path))

    def continue_run(
        self, run_dir: Path, stop: StopSwitch, on_result: OnResult, options: ContinueOptions = CONTINUE_ALL
    ) -> ExperimentRunSummary:
        """Continue a crashed, stopped or paused run: run each trial that has no result; return the whole run's summary.

        A paused trial continues from its checkpoint; without an acknowledged pause, it starts from its beginning.

        Args:
            run_dir: the folder of the run.
            stop: when pressed, stops the run.
            on_result: is called after each trial.
            options: the options of the command.

        Raises:
            CeilingInvalidError, ExperimentInvalidError: a ceiling is negative or not finite, or a secret is not set.
            RunNotFoundError, RunBusyError: the folder is not a run, or another process works on the run.
            RunChangedError: the project's snapshot, the data set or the configuration was changed since the run began.
            TrialNotFoundError, TrialStateError, CheckpointMissingError: a trial cannot be resumed or cannot be retried.
            SandboxUnavailableError, RunDiskFullError: this machine cannot provide the sandbox, or the disk is full.
        """
        check_ceilings(options.ceilings)
        run = open_checked_run(run_dir)
        root = Path(run.facts["project_root"])
        snapshot, drift = snapshot_of(run, root, allow_drift=options.allow_drift)
        # The lock first: making, preparing and closing an executor may end the trials of another one.
        with locked(run.path):
            only = None if options.paused is None else check_paused(run, options.paused)
            if options.retry_errors:
                check_retryable(run)
            with self._session(
                run.config, run.run_id, root, (options.executor, options.address), stop, on_result
            ) as session:
                session.executor.prepare(run.path)
                if drift is not None:
                    record_drift(run, drift, self._clock.now_us())
                return self._run(session, run, snapshot, run.tasks(), only, options)

    @contextmanager
    def _session(
        self,
        config: ExperimentConfig,
        run_id: str,
        root: Path,
        executor: tuple[str, str | None],
        stop: StopSwitch,
        on_result: OnResult,
    ) -> Iterator[_Session]:
        """Yield a run's session (executor, settings, telemetry link); close the executor after the `with` block.

        `executor` is a pair: the executor's name, and the address of its cluster (None for the default address).
        """
        settings = RunSettings(
            config=config,
            run_id=run_id,
            root=root,
            clock=self._clock,
            host_environment=self._environment,
            secrets=secrets_of(config, self._environment),
        )
        link = TelemetryLink(self._telemetry)
        name, address = executor
        made = make_executor_of_run(
            name, ExecutorOptions(settings=settings, stop=stop, on_spans=link.send_spans, address=address)
        )
        try:
            yield _Session(settings, made, link, stop, on_result)
        finally:
            made.close()

    def _run(
        self,
        session: _Session,
        run: RunFolder,
        snapshot: ProjectSnapshot,
        tasks: TaskIndex,
        only: AbstractSet[str] | None = None,
        options: ContinueOptions = CONTINUE_ALL,
    ) -> ExperimentRunSummary:
        """Run each trial that has no result, and write the run's final files. The caller must hold the run's lock.

        `only` are the ids of the trials to run; None for all. The ceilings (limits of the whole run) in `options`
        replace those of the last process that worked on the run.
        """
        from relab.experiments.proof.proving import prove_run, usable_signer  # noqa: PLC0415 loads what signs

        past = read_sessions(run.path)
        spending = RunSpending((past.ceilings or configured_ceilings(run.config)).raised(options.ceilings))
        link = session.link
        drop_requests(run)
        break_seal(run.path)
        context = session.context(run, snapshot, tasks)
        journal = Journal(run.path)

        def on_result(result: TrialResult, progress: RunProgress) -> None:
            link.send_run(result.agent_run)
            session.on_result(result, progress)

        with disk_errors_of(run.path):
            run.write_control("running", self._clock.now_us())
            session.executor.open(context)
            link.start()
            try:
                plan = plan_of_run(run, len(tasks))
                done, retried = open_journal(run, journal, retry_errors=options.retry_errors)
                runner = PlanRunner(context, plan, tasks, session.executor, journal, done, on_result, only, spending)
                spending.seconds_before = past.seconds_until(_count_finished(context, runner, spending, link))
                note_session(run.path, session_begin(spending, self._clock.now_us()))
                runner.run(session.stop)
            finally:
                link.close()
                # If the write fails, the run still counts as interrupted once its lock is free.
                with contextlib.suppress(OSError):
                    run.write_control("interrupted", self._clock.now_us())
                journal.close()
            signer = usable_signer(self._signing_key)
            finish_run(run, is_complete=runner.is_finished, signed_by=signer.key_id)
            paused = [] if runner.is_finished else paused_trials(run)
            status = runner.status(paused)
            note_session(run.path, session_end(self._clock.now_us(), runner.seconds, status, runner.ceiling))
            run.write_control(status, self._clock.now_us())
            drop_requests(run)
            # Last of all, because the seal has the digests of all other files.
            prove_run(run, signer)
        return replace(_summary(run, runner, link, paused), retried=retried, end_warnings=signer.warnings)


@dataclass(frozen=True)
class _Session:
    """The objects that a run needs as long as this process works on it: executor, telemetry, stop switch."""

    settings: RunSettings
    executor: Executor
    link: TelemetryLink
    stop: StopSwitch
    on_result: OnResult

    def context(self, run: RunFolder, snapshot: ProjectSnapshot, tasks: TaskIndex) -> RunContext:
        """Return the values that all trials of the run share."""
        return RunContext(
            **vars(self.settings),
            run_dir=run.path,
            snapshot=snapshot,
            dataset=tasks.path.parent,
            harness_identity=run.facts["harness_identity"],
            keep=Keep(run.facts["keep_workspaces"]),
            forks=sources_of(run),
            prices=self.link.prices_for(self.settings.config),
        )


def _summary(run: RunFolder, runner: PlanRunner, link: TelemetryLink, paused: Sequence[str]) -> ExperimentRunSummary:
    progress = runner.progress
    return ExperimentRunSummary(
        run.run_id,
        run.path,
        progress.total,
        progress.done,
        runner.is_finished,
        {variant: dict(counts) for variant, counts in progress.outcomes.items() if counts},
        link.sent,
        link.failed,
        link.first_error,
        [*run.facts["warnings"], *drifts(run)],
        list(progress.problems.values()),
        paused,
        [decision.to_json() for decision in runner.stopping.decisions] if runner.stopping is not None else [],
        runner.not_needed,
        None if runner.is_finished else runner.ceiling,
        cached=progress.cached,
    )


def _count_finished(context: RunContext, runner: PlanRunner, spending: RunSpending, link: TelemetryLink) -> int | None:
    """Count the trials that earlier processes of the run finished, and queue agent runs that telemetry still lacks.

    Return the time at which the last of these trials ended, in microseconds since 1970; None if no trial has an end
    time.

    Args:
        context: the values that all trials of the run share.
        runner: counts the trials as finished.
        spending: adds up the costs of the trials.
        link: sends the agent runs to telemetry.

    Raises:
        RunDamagedError: the journal has a trial of an unknown variant.
    """
    last_us: int | None = None
    variants = {variant.variant_id for variant in context.config.variants}
    for entry in read_journal(context.run_dir):
        row = entry["row"]
        if row["variant_id"] not in variants:
            path = context.run_dir / NAME
            raise damaged(path, f"has a trial of a variant that the experiment does not have: {row['variant_id']!r}")
        runner.count_finished(entry)
        spending.note(entry)
        if row["ended_at"] is not None:
            last_us = max(parse_time(row["ended_at"]), last_us or 0)
    for entry in withdrawn_entries(context.run_dir):
        spending.note(entry)
    # The journal is read again, because a run can have more rows than fit into memory.
    link.send_missing(context, (entry["row"] for entry in read_journal(context.run_dir)))
    return last_us

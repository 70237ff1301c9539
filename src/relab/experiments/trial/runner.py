"""Run one trial: create its folders, run its attempts, and make its result row."""

from __future__ import annotations

import shlex
import threading
import time
from dataclasses import replace

from relab.core.atomic_files import is_disk_full
from relab.core.clock import format_time, uptime_us
from relab.experiments.config.limits import limits_of
from relab.experiments.config.models import IntegrationLevel
from relab.experiments.errors import RunDiskFullError, TrialPaused, TrialStopped
from relab.experiments.models import ErrorType, TrialOutcome, TrialResult
from relab.experiments.plan.trials import Trial
from relab.experiments.sandbox.protocol import Posture, RunningAttempt, Sandbox, SandboxError
from relab.experiments.trial import wire
from relab.experiments.trial.agent_run import agent_run_of
from relab.experiments.trial.checkpoints import begin_fork
from relab.experiments.trial.context import RunContext
from relab.experiments.trial.events import EventStream, read_events
from relab.experiments.trial.evidence import REF, EvidenceStore
from relab.experiments.trial.inventory import inventory
from relab.experiments.trial.network_services import TrialNetwork
from relab.experiments.trial.outputs import keep_files, write_output, write_state
from relab.experiments.trial.pausing import REQUEST, PauseDialogue, PausedTrial
from relab.experiments.trial.preparing import (
    disk_bytes_of,
    folders_of,
    make_launch,
    make_workspace,
    restore_input,
    write_documents,
)
from relab.experiments.trial.redaction import Redactor
from relab.experiments.trial.resuming import begin_segment, record_pause, resumable
from relab.experiments.trial.rows import AttemptTimes, FinishedAttempt, error_of, journal_entry, make_row, metrics_of
from relab.experiments.trial.span_usage import cost_of, from_spans, span_usage
from relab.experiments.trial.stored_results import StoredResult, capture
from relab.experiments.trial.trial_folder import INVENTORY, STATE, TrialFolder, trial_folder
from relab.experiments.trial.watch import MB, AttemptEnd, WatchLimits, cut, watch, without_holes
from relab.experiments.workspace.manifests import FileManifest, compare
from relab.experiments.workspace.snapshots import Clone
from relab.experiments.workspace.untrusted_trees import remove_tree

_ANSWERING = frozenset((IntegrationLevel.SDK_CONTROL, IntegrationLevel.SDK_FULL))
"""The integration levels whose harnesses read the control file after each step and acknowledge it in an event."""
_MAX_STDERR_CHARS = 500


class TrialRunner:
    """Runs the trials of one run (one execution of an experiment); thread-safe.

    Args:
        context: the values that all trials share.
        sandbox: starts the attempts; it must be prepared.
        network: creates the services that an attempt reaches over the network of its sandbox.
        redactor: redacts the run's secrets.
    """

    def __init__(self, context: RunContext, sandbox: Sandbox, network: TrialNetwork, redactor: Redactor) -> None:
        self._context = context
        self._sandbox = sandbox
        self._network = network
        self._redactor = redactor
        self._evidence = EvidenceStore(context.run_dir)
        self._limits = limits_of(context.config)

    def run(self, trial: Trial, stop_now: threading.Event) -> TrialResult:
        """Run the attempts of a trial and return the result of the last one.

        Raises:
            TrialStopped: the run was stopped immediately (`stop_now` was set); the trial has no result.
            TrialPaused: the trial was paused; it has no result yet.
            CheckpointMissingError, CheckpointInvalidError: the checkpoint of a paused trial or of a fork is missing, or
                is not in the trial's folders. The folder of a paused trial is then unchanged.
            RunDamagedError: the record or the input of a paused trial cannot be read. Its folder is then unchanged.
            RunDiskFullError: the disk is full; the trial has no result.
        """
        begun, earlier_usd = time.perf_counter(), 0.0
        context = self._context
        folder = trial_folder(context.run_dir, trial.ids.trial_id)
        retry = context.config.design.policies.retry
        try:
            paused = resumable(folder)
            was_paused = paused is not None
            if paused is None:
                folder.clear()
            else:
                # The row's duration includes the time before the pause.
                begun -= paused.duration_ms / 1_000
            for number in range(paused.attempt if paused is not None else 1, retry.max_attempts + 1):
                attempt = self._attempt(trial, folder, stop_now, number, paused)
                paused = None
                if attempt.end.ended_for is ErrorType.STOPPED:
                    raise TrialStopped
                if number == retry.max_attempts or not attempt.is_retried(retry.retry_on):
                    break
                measured = metrics_of(context.config, folder, attempt)
                earlier_usd += cost_of(span_usage(folder, attempt, number, measured, context.prices) | measured)
                folder.set_attempt_aside(number)
            return self._finish(
                trial,
                folder,
                attempt,
                number,
                begun,
                earlier_usd,
                captures=not was_paused and trial.ids.trial_id not in context.forks,
            )
        except OSError as error:
            if is_disk_full(error):
                raise RunDiskFullError(
                    f"The disk of {context.run_dir} is full; trial {trial.ids.trial_id} has no result.",
                    remedy=f"Free disk space, then run: lab run --continue {shlex.quote(str(context.run_dir))}",
                ) from error
            return self._broken(trial, folder, error, begun)

    def restore(self, trial: Trial, stored: StoredResult, max_bytes: int) -> TrialResult:
        """Return the result of a trial from the result cache, without running the trial.

        The trial's folder gets the same files as if the trial had been run.

        Args:
            trial: the trial.
            stored: the entry of the cache.
            max_bytes: the largest total size of the entry's files.

        Raises:
            StoredResultInvalidError: the entry cannot be unpacked, or the restored outcome or workspace differs from
                the stored one.
            OSError: the disk is full, or a file cannot be read.
        """
        begun, context, head = time.perf_counter(), self._context, stored.head
        folder = trial_folder(context.run_dir, trial.ids.trial_id)
        folder.clear()
        folder.make()
        copied = make_workspace(context, trial, folder)
        places = self._sandbox.places(folders_of(context, folder))
        document = self._redactor.data(wire.to_json_bytes(wire.trial_input(context.config, trial, places)))
        write_documents(context, folder, document, head.started_us)
        stored.unpack(context.config, folder, copied.manifest, trial.ids, max_bytes)
        attempt = self._read(trial, folder, copied, AttemptEnd(head.exit_code), head.isolation, head.times, None)
        stored.check(context.config, attempt)
        return self._finish(trial, folder, attempt, head.attempts, begun, 0.0, source=stored)

    def _attempt(
        self, trial: Trial, folder: TrialFolder, stop_now: threading.Event, number: int, paused: PausedTrial | None
    ) -> FinishedAttempt:
        """Run the attempt with this number (from 1) of a trial; `stop_now` is set to end it at once.

        `paused` is the record of the pause if the attempt is resumed; None for a new attempt.

        Raises:
            TrialPaused: the trial was paused.
        """
        context = self._context
        fork = context.forks.get(trial.ids.trial_id)
        if paused is None:
            folder.make()
            copied = make_workspace(context, trial, folder)
            if fork is not None:
                copied = begin_fork(fork, folder, copied)
        else:
            begin_segment(folder, paused, folder.host_path(context.config.runtime.harness.output_path))
            copied = Clone(folder.workspace, paused.manifest)
        started_us, begun_us = context.clock.now_us(), uptime_us()
        folders = folders_of(context, folder)
        places = self._sandbox.places(folders)
        ext = {} if fork is None else {"fork": fork.ext(places)}
        if paused is not None:
            ext["resume"] = paused.ext()
        document = self._redactor.data(wire.to_json_bytes(wire.trial_input(context.config, trial, places, ext)))
        write_documents(context, folder, document, started_us, is_resumed=paused is not None)
        services = self._network.services(folder, trial.ids)
        launch = make_launch(context, trial, folder, folders, places, services)
        started = time.perf_counter()
        posture = None
        try:
            running = self._sandbox.start(launch)
            posture = running.posture
            end = self._watch(running, trial, folder, stop_now, paused)
        except SandboxError as error:
            end = AttemptEnd(None, ErrorType.SANDBOX, str(error))
        duration_ms = (time.perf_counter() - started) * 1_000
        restore_input(folder, document)
        # Measured with the uptime, because the wall clock can jump during the trial.
        ended_us = started_us + uptime_us() - begun_us
        if paused is not None:
            started_us, duration_ms = paused.started_us, paused.duration_ms + duration_ms
        times = AttemptTimes(started_us, ended_us, duration_ms)
        if end.pause is not None:
            self._pause(trial, folder, end, times, copied.manifest, number, paused)
            raise TrialPaused
        # The request is left over if the trial ended before it could be paused.
        (folder.root / REQUEST).unlink(missing_ok=True)
        return self._read(trial, folder, copied, end, posture, times, paused)

    def _watch(
        self,
        running: RunningAttempt,
        trial: Trial,
        folder: TrialFolder,
        stop_now: threading.Event,
        paused: PausedTrial | None,
    ) -> AttemptEnd:
        context, config = self._context, self._context.config
        seconds, events = wire.trial_seconds(config, trial.task), folder.host_path(config.runtime.harness.events.path)
        if seconds is not None and paused is not None:
            seconds = max(seconds - paused.duration_ms / 1_000, 0.0)
        control = folder.host_path(config.runtime.harness.control_plane.path)
        fork = context.forks.get(trial.ids.trial_id)
        pause = PauseDialogue(folder, control, events, context.clock.now_us)
        limits = WatchLimits(
            seconds=seconds,
            grace_s=config.runtime.timeouts.grace_seconds,
            output_bytes=int(config.runtime.workspace.max_output_mb * MB),
            outputs=(folder.stdout, folder.stderr),
            disk_bytes=disk_bytes_of(context) + (0 if fork is None else fork.size),
            # Without `attempts/`, which holds the files of earlier attempts.
            disk=(folder.workspace, folder.state, folder.out, folder.root / "tmp"),
            budgets=wire.budgets_of(config, trial.task),
            events=events,
            root=folder.root,
            limits=self._limits,
        )
        try:
            if running.posture.egress_self_test.get("passed") is False:
                return AttemptEnd(running.end(0), ErrorType.EGRESS_OPEN, "the egress self-test found a way out")
            return watch(running, limits, stop_now, pause)
        finally:
            running.close()

    def _read(
        self,
        trial: Trial,
        folder: TrialFolder,
        copied: Clone,
        end: AttemptEnd,
        posture: Posture | None,
        times: AttemptTimes,
        paused: PausedTrial | None,
    ) -> FinishedAttempt:
        context = self._context
        end, output, events = self._read_documents(trial, folder, end, paused)
        if end.rewrote_events:
            events.note(1, "the harness changed events after it had written them")
        events_path = folder.host_path(context.config.runtime.harness.events.path)
        after = copied.now()
        diff = compare(copied.manifest, after)
        evidence = self._evidence.write(folder, copied.manifest, after, diff, format_time(times.ended_us), events_path)
        problem = None
        if end.ended_for is not None:
            problem = (end.ended_for.value, self._redactor.text(end.message or ""))
        elif output.output is None:
            assert output.error_type is not None
            message = (output.message or "") + _end_of_stderr(folder, end, output.error_type)
            problem = (output.error_type.value, self._redactor.text(message))
        before = copied.manifest
        return FinishedAttempt(end, posture, times, output, events, before, after, diff, evidence, problem)

    def _read_documents(
        self, trial: Trial, folder: TrialFolder, end: AttemptEnd, paused: PausedTrial | None
    ) -> tuple[AttemptEnd, wire.ReadOutput, EventStream]:
        """Cut large logs and redact secrets in the folder of an ended attempt; then read its output and events.

        Return `(end, output, events)`. If the attempt exceeded its disk limit, sparse files are deleted first, and
        their number is added to the message of the returned `end`.
        """
        config = self._context.config
        for path in (folder.stdout, folder.stderr):
            cut(path, int(config.runtime.workspace.max_output_mb * MB))
        remove_tree(folder.root / "tmp")
        if end.ended_for is ErrorType.DISK_LIMIT:
            end = without_holes(end, folder)
        self._redactor.files([folder.root])
        harness = config.runtime.harness
        output = wire.read_output(
            folder.host_path(harness.output_path), folder.stdout, trial.ids, end.exit_code, below=folder.root
        )
        is_answered = harness.integration_level in _ANSWERING
        events_path = folder.host_path(harness.events.path)
        resumed_after = paused.seqs if paused is not None else ()
        return (
            end,
            output,
            read_events(
                events_path, trial.ids, below=folder.root, is_answered=is_answered, resumed_after=resumed_after
            ),
        )

    def _pause(
        self,
        trial: Trial,
        folder: TrialFolder,
        end: AttemptEnd,
        times: AttemptTimes,
        manifest: FileManifest,
        number: int,
        before: PausedTrial | None,
    ) -> None:
        """Write the record of a pause and the trial's `trial_state.json` (status: paused) into the trial's folder.

        The checkpoints and the number of the last event are read from the harness's output and events. `end` says how
        the attempt with the number `number` ended, and `times` when it began and ended. `manifest` lists the files of
        the workspace when the attempt began. `before` is the record of the attempt's previous pause; None for the
        first pause.
        """
        assert end.pause is not None
        _, output, stream = self._read_documents(trial, folder, end, before)
        paused = record_pause(
            folder,
            end.pause,
            times,
            before=before,
            attempt=number,
            manifest=manifest,
            checkpoints=output.output.checkpoints if output.output is not None else (),
            events_seq=stream.events[-1]["seq"] if stream.events else None,
        )
        reason = "paused" if paused.acknowledged else "pause_timeout"
        name = None if paused.checkpoint is None else paused.checkpoint.name
        write_state(self._context, folder, "paused", reason, label=paused.label, checkpoint=name)

    def _finish(
        self,
        trial: Trial,
        folder: TrialFolder,
        attempt: FinishedAttempt,
        number: int,
        begun: float,
        usd: float,
        *,
        captures: bool = False,
        source: StoredResult | None = None,
    ) -> TrialResult:
        """Write the documents of a finished trial and return its result, from its last attempt.

        `number` is the number of attempts, `begun` the `time.perf_counter()` at the start of the trial, and `usd` the
        cost of earlier attempts. `captures` says whether to store the result in the result cache. `source` is the entry
        of the result cache from which the trial got its result; None if the trial was run.
        """
        context, config = self._context, self._context.config
        write_output(config, folder, trial, attempt)
        document = inventory(config, attempt.posture, context.harness_identity)
        if source is not None:
            document["ext"]["result_cache"] = source.provenance()
        own = {INVENTORY: REF + self._evidence.link(document, folder.root / INVENTORY)}
        measured = metrics_of(config, folder, attempt)
        model_use: dict[str, float] = dict(source.head.model_use) if source is not None else {}
        if source is None:
            model_use |= self._network.model_use(folder)
            model_use |= span_usage(folder, attempt, number, measured, context.prices)
        used, error = measured | model_use, error_of(attempt)
        row = make_row(config, trial, attempt.outcome, error, attempts=number, attempt=attempt, metrics=used)
        row = replace(row, metrics_from_spans=from_spans(model_use))
        if source is not None:
            # Its agent run is in telemetry already; a second one would count its tokens and its failure twice.
            row = replace(row, cached_from=source.head.source, agent_run_id=source.head.agent_run_id)
        elif captures:
            capture(context, folder, attempt, row, earlier_usd=usd, model_use=model_use)
        keep_files(context, folder, attempt, row)
        if config.runtime.harness.integration_level is not IntegrationLevel.CLI_BASIC:
            status = "failed" if row.outcome is TrialOutcome.ERROR else "completed"
            fork = context.forks.get(trial.ids.trial_id)
            begun_from = None if fork is None else fork.name
            own[STATE] = REF + write_state(context, folder, status, row.error_type, checkpoint=begun_from)
        ran_ms = attempt.times.duration_ms if source is None else 0.0
        row = replace(row, overhead_ms=(time.perf_counter() - begun) * 1_000 - ran_ms)
        agent_run = agent_run_of(
            row,
            experiment_id=config.experiment.id,
            bindings=trial.variant.bindings,
            events=attempt.events.events,
            trace_ids=self._network.trace_ids(folder),
        )
        entry = journal_entry(config, trial, folder, attempt, row, own) | ({"earlier_cost_usd": usd} if usd else {})
        if source is None:
            return TrialResult(row, agent_run, entry)
        return TrialResult(row, None, entry | {"cached": source.provenance()})

    def _broken(self, trial: Trial, folder: TrialFolder, error: OSError, begun: float) -> TrialResult:
        """Return the result of a trial whose files could not be created, read or deleted: outcome ERROR.

        `error` gives the message, and `begun` is the `time.perf_counter()` at the start of the trial.
        """
        message = self._redactor.text(f"{error.strerror or error}: {error.filename or folder.root}")
        problem = (ErrorType.WORKSPACE.value, message)
        row = make_row(self._context.config, trial, TrialOutcome.ERROR, problem, attempts=1)
        row = replace(row, overhead_ms=(time.perf_counter() - begun) * 1_000)
        return TrialResult(row, None, {"row": row.to_json()})


def _end_of_stderr(folder: TrialFolder, end: AttemptEnd, error_type: ErrorType) -> str:
    """Return the last line of standard error as text for an error message; empty if the harness did not fail itself."""
    if error_type is not ErrorType.HARNESS_PROCESS or not end.exit_code:
        return ""
    line = wire.last_line(folder.stderr, folder.root)
    return "" if line is None else f"; standard error ends with: {line.decode('utf-8', 'replace')[:_MAX_STDERR_CHARS]}"

"""Run one trial: create its folders, run its attempts, and make its result row."""

from __future__ import annotations

import errno
import hashlib
import shutil
import stat
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from relab.core.clock import format_time, uptime_us
from relab.experiments.config.limits import limits_of
from relab.experiments.config.models import IntegrationLevel
from relab.experiments.errors import RunDiskFullError, TrialStopped
from relab.experiments.models import ErrorType, Keep, TrialOutcome, TrialResult, TrialRow
from relab.experiments.plan.trials import Trial
from relab.experiments.sandbox.protocol import Posture, RunningAttempt, Sandbox, SandboxError
from relab.experiments.trial import wire
from relab.experiments.trial.agent_run import agent_run_of
from relab.experiments.trial.context import RunContext
from relab.experiments.trial.events import read_events
from relab.experiments.trial.evidence import REF, EvidenceStore, hash_chain
from relab.experiments.trial.inventory import inventory
from relab.experiments.trial.metrics import collect, measure
from relab.experiments.trial.network_services import TrialNetwork
from relab.experiments.trial.preparing import (
    disk_bytes_of,
    folders_of,
    make_launch,
    make_workspace,
    restore_input,
    write_documents,
)
from relab.experiments.trial.redaction import Redactor
from relab.experiments.trial.rows import AttemptTimes, FinishedAttempt, error_of, make_row
from relab.experiments.trial.trial_folder import INVENTORY, OUTPUT, STATE, TrialFolder, link_or_copy, trial_folder
from relab.experiments.trial.watch import MB, AttemptEnd, WatchLimits, cut, watch
from relab.experiments.workspace.manifests import compare
from relab.experiments.workspace.snapshots import Clone
from relab.experiments.workspace.untrusted_files import write_own
from relab.experiments.workspace.untrusted_trees import remove_hollow_files, remove_tree

_NO_ROOM = frozenset((errno.ENOSPC, errno.EDQUOT))
_ANSWERING = frozenset((IntegrationLevel.SDK_CONTROL, IntegrationLevel.SDK_FULL))
"""The integration levels whose harnesses read the control file after each step and acknowledge it in an event."""


class TrialRunner:
    """Runs trials of one run; thread-safe.

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
            RunDiskFullError: the disk is full; the trial has no result.
        """
        begun = time.perf_counter()
        context = self._context
        folder = trial_folder(context.run_dir, trial.ids.trial_id)
        max_attempts = context.config.design.policies.retry.max_attempts
        try:
            folder.clear()
            for number in range(1, max_attempts + 1):
                attempt = self._attempt(trial, folder, stop_now)
                if attempt.end.ended_for is ErrorType.STOPPED:
                    raise TrialStopped
                if number == max_attempts or not self._tries_again(attempt):
                    break
                folder.set_attempt_aside(number)
            return self._finish(trial, folder, attempt, number, begun)
        except OSError as error:
            if error.errno in _NO_ROOM:
                raise RunDiskFullError(
                    f"The disk of {context.run_dir} is full; trial {trial.ids.trial_id} has no result.",
                    remedy=f"Free disk space, then run: lab run --continue {context.run_dir}",
                ) from error
            return self._broken(trial, folder, error, begun)

    def _attempt(self, trial: Trial, folder: TrialFolder, stop_now: threading.Event) -> FinishedAttempt:
        context = self._context
        folder.make()
        copied = make_workspace(context, trial, folder)
        started_us, begun_us = context.clock.now_us(), uptime_us()
        folders = folders_of(context, folder)
        places = self._sandbox.places(folders)
        document = self._redactor.data(wire.to_json_bytes(wire.trial_input(context.config, trial, places)))
        write_documents(context, folder, document, started_us)
        services = self._network.services(folder, trial.ids)
        launch = make_launch(context, trial, folder, folders, places, services)
        started = time.perf_counter()
        posture = None
        try:
            running = self._sandbox.start(launch)
            posture = running.posture
            end = self._watch(running, trial, folder, stop_now)
        except SandboxError as error:
            end = AttemptEnd(-1, ErrorType.SANDBOX, str(error))
        duration_ms = (time.perf_counter() - started) * 1_000
        restore_input(folder, document)
        # Measured with the uptime, because the wall clock can jump during the trial.
        ended_us = started_us + uptime_us() - begun_us
        return self._read(trial, folder, copied, end, posture, AttemptTimes(started_us, ended_us, duration_ms))

    def _watch(
        self, running: RunningAttempt, trial: Trial, folder: TrialFolder, stop_now: threading.Event
    ) -> AttemptEnd:
        config = self._context.config
        limits = WatchLimits(
            seconds=wire.trial_seconds(config, trial.task),
            grace_s=config.runtime.timeouts.grace_seconds,
            output_bytes=int(config.runtime.workspace.max_output_mb * MB),
            outputs=(folder.stdout, folder.stderr),
            disk_bytes=disk_bytes_of(self._context),
            # Without `attempts/`, which holds the files of earlier attempts.
            disk=(folder.workspace, folder.state, folder.out, folder.root / "tmp"),
            budgets=wire.budgets_of(config, trial.task),
            events=folder.host_path(config.runtime.harness.events.path),
            root=folder.root,
            limits=self._limits,
        )
        try:
            if running.posture.egress_self_test.get("passed") is False:
                return AttemptEnd(running.end(0), ErrorType.EGRESS_OPEN, "the egress self-test found a way out")
            return watch(running, limits, stop_now)
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
    ) -> FinishedAttempt:
        context = self._context
        limit = int(context.config.runtime.workspace.max_output_mb * MB)
        for path in (folder.stdout, folder.stderr):
            cut(path, limit)
        remove_tree(folder.root / "tmp")
        if end.ended_for is ErrorType.DISK_LIMIT:
            end = _without_holes(end, folder)
        self._redactor.files([folder.root])
        harness = context.config.runtime.harness
        output = wire.read_output(
            folder.host_path(harness.output_path), folder.stdout, trial.ids, end.exit_code, below=folder.root
        )
        events_path = folder.host_path(harness.events.path)
        is_answered = harness.integration_level in _ANSWERING
        events = read_events(events_path, trial.ids, below=folder.root, is_answered=is_answered)
        after = copied.now()
        diff = compare(copied.manifest, after)
        evidence = self._evidence.write(folder, copied.manifest, after, diff, format_time(times.ended_us), events_path)
        problem = None
        if end.ended_for is not None:
            problem = (end.ended_for.value, self._redactor.text(end.message or ""))
        elif output.output is None:
            assert output.error_type is not None
            problem = (output.error_type.value, self._redactor.text(output.message or ""))
        return FinishedAttempt(end, posture, times, output, events, diff, evidence, problem)

    def _tries_again(self, attempt: FinishedAttempt) -> bool:
        retry_on = self._context.config.design.policies.retry.retry_on
        if attempt.end.ended_for is ErrorType.TIMEOUT:
            return "timeout" in retry_on
        if attempt.outcome is TrialOutcome.ERROR:
            return "error" in retry_on
        return attempt.outcome is TrialOutcome.FAILURE and "failure" in retry_on

    def _finish(
        self, trial: Trial, folder: TrialFolder, attempt: FinishedAttempt, number: int, begun: float
    ) -> TrialResult:
        context = self._context
        config = context.config
        self._write_output(folder, trial, attempt)
        document = inventory(config, attempt.posture, context.harness_identity)
        own = {INVENTORY: REF + self._evidence.link(document, folder.root / INVENTORY)}
        metrics = measure(
            config,
            duration_ms=attempt.times.duration_ms,
            exit_code=attempt.end.exit_code,
            raw_output=attempt.output.raw,
            output=attempt.output.output,
            events=attempt.events,
            diff=attempt.diff,
            workspace=folder.workspace,
        )
        row = make_row(
            config, trial, attempt.outcome, error_of(attempt), attempts=number, attempt=attempt, metrics=metrics
        )
        self._keep_files(folder, attempt, row)
        if config.runtime.harness.integration_level is not IntegrationLevel.CLI_BASIC:
            own[STATE] = REF + self._write_state(folder, row)
        row = replace(row, overhead_ms=(time.perf_counter() - begun) * 1_000 - attempt.times.duration_ms)
        agent_run = agent_run_of(
            row,
            experiment_id=config.experiment.id,
            bindings=trial.variant.bindings,
            events=attempt.events.events,
            trace_ids=self._network.trace_ids(folder),
        )
        entry: dict[str, Any] = {"row": row.to_json()}
        if attempt.evidence is not None:
            policy = config.design.policies.state
            entry["evidence"] = attempt.evidence.record(row, trial.chain_id, policy, own)
            entry["chain"] = attempt.evidence.chain(row, trial.chain_id, policy)
        entry["head"] = hash_chain(folder.host_path(config.runtime.harness.events.path), below=folder.root)
        return TrialResult(row, agent_run, entry)

    def _write_output(self, folder: TrialFolder, trial: Trial, attempt: FinishedAttempt) -> None:
        written = folder.host_path(self._context.config.runtime.harness.output_path)
        if attempt.problem is None and stat.S_ISREG(_mode(written)):
            link_or_copy(written, folder.root / OUTPUT)
            return
        document = attempt.output.raw
        if attempt.problem is not None:
            error_type, message = attempt.problem
            document = wire.error_output(trial.ids, TrialOutcome.ERROR, error_type, message)
            if attempt.output.raw:
                document["ext"] = {"harness_output": attempt.output.raw}
        write_own(folder.root / OUTPUT, wire.to_json_bytes(document))

    def _keep_files(self, folder: TrialFolder, attempt: FinishedAttempt, row: TrialRow) -> None:
        context = self._context
        changed = [entry.path for entry in [*attempt.diff.added, *[new for _, new in attempt.diff.modified]]]
        wanted = context.config.artifacts
        for path in collect(folder.workspace, wanted.collect, wanted.base_dir, changed):
            target = folder.root / "artifacts" / path
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(folder.workspace / path, target)
        needed_later = context.config.design.policies.state.carries_state
        keeps = context.keep is Keep.ALL or (context.keep is Keep.FAILED and not row.success)
        if not keeps and not needed_later:
            remove_tree(folder.workspace)

    def _write_state(self, folder: TrialFolder, row: TrialRow) -> str:
        """Write the state document of a trial (`trial_state_v1`); return its SHA-256 in hexadecimal."""
        document = {
            "schema_version": "trial_state_v1",
            "trial_id": row.trial_id,
            "status": "completed" if row.outcome is not TrialOutcome.ERROR else "failed",
            "pause_label": None,
            "checkpoint_selected": None,
            "exit_reason": row.error_type,
            "updated_at": format_time(self._context.clock.now_us()),
        }
        raw = wire.to_json_bytes(document)
        write_own(folder.root / STATE, raw)
        return hashlib.sha256(raw).hexdigest()

    def _broken(self, trial: Trial, folder: TrialFolder, error: OSError, begun: float) -> TrialResult:
        """Return the result of a trial whose files could not be created, read or deleted: outcome ERROR."""
        message = self._redactor.text(f"{error.strerror or error}: {error.filename or folder.root}")
        problem = (ErrorType.WORKSPACE.value, message)
        row = make_row(self._context.config, trial, TrialOutcome.ERROR, problem, attempts=1)
        row = replace(row, overhead_ms=(time.perf_counter() - begun) * 1_000)
        return TrialResult(row, None, {"row": row.to_json()})


def _without_holes(end: AttemptEnd, folder: TrialFolder) -> AttemptEnd:
    """Delete files that are mostly holes, which would take the runner long to read; add their number to the message."""
    count = remove_hollow_files(folder.workspace, folder.state, folder.out)
    if not count:
        return end
    return replace(end, message=f"{end.message}; {count:,} files that were mostly holes were deleted")


def _mode(path: Path) -> int:
    try:
        return path.lstat().st_mode
    except OSError:
        return 0

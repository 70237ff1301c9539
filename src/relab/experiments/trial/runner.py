"""Run one trial: make its folders, run its attempts, and make its result row."""

from __future__ import annotations

import errno
import hashlib
import shutil
import stat
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from relab.core.clock import format_time, uptime_us
from relab.experiments.config.limits import limits_of
from relab.experiments.config.models import IntegrationLevel, StatePolicy, Variant
from relab.experiments.errors import RunDiskFullError
from relab.experiments.models import ErrorType, Keep, TrialIds, TrialOutcome, TrialResult, TrialRow
from relab.experiments.plan.dataset import Task
from relab.experiments.plan.trials import Slot
from relab.experiments.sandbox.protocol import Posture, RunningAttempt, SandboxError
from relab.experiments.trial import wire
from relab.experiments.trial.agent_run import agent_run_of
from relab.experiments.trial.events import read_events
from relab.experiments.trial.evidence import REF, EvidenceStore, hash_chain
from relab.experiments.trial.inventory import inventory
from relab.experiments.trial.metrics import collect, measure
from relab.experiments.trial.preparing import disk_bytes_of, make_workspace, mend_input, prepare_launch
from relab.experiments.trial.rows import FinishedAttempt, RunContext, Stopped, error_of, make_row
from relab.experiments.trial.trial_folder import INVENTORY, OUTPUT, STATE, TrialFolder, link_or_copy, trial_folder
from relab.experiments.trial.watch import MB, AttemptEnd, WatchLimits, cut, watch
from relab.experiments.workspace.manifests import compare
from relab.experiments.workspace.snapshots import Clone, remove_hollow_files, remove_tree
from relab.experiments.workspace.untrusted_files import write_own

_NO_ROOM = frozenset((errno.ENOSPC, errno.EDQUOT))
_ANSWERING = frozenset((IntegrationLevel.SDK_CONTROL, IntegrationLevel.SDK_FULL))
"""Integration levels whose harnesses read the control file after each step and acknowledge it in an event."""


class TrialRunner:
    """Runs trials of one run; thread-safe.

    Args:
        context: the values that all trials share.
        previous: returns the folder of the trial whose workspace and state a trial continues from; None for a fresh start.
    """

    def __init__(self, context: RunContext, previous: Callable[[Slot], TrialFolder | None]) -> None:
        self._context = context
        self._previous = previous
        self._evidence = EvidenceStore(context.run_dir)

    def run(self, slot: Slot, stop_now: threading.Event) -> TrialResult:
        """Run the attempts of a trial and return the result of the last one.

        Raises:
            Stopped: the run was stopped immediately; the trial has no result.
            DiskFullError: the disk is full; the trial has no result.
        """
        begun = time.perf_counter()
        context = self._context
        task = context.tasks.read(slot.task)
        variant = context.config.variants[slot.variant]
        ids = TrialIds(context.run_id, slot.trial_id, variant.variant_id, task.task_id, slot.replication)
        folder = trial_folder(context.run_dir, slot.trial_id)
        try:
            folder.clear()
            for number in range(1, context.config.design.policies.retry.max_attempts + 1):
                attempt = self._attempt(slot, ids, variant, task, folder, stop_now)
                if attempt.watched.ended_for is ErrorType.STOPPED:
                    raise Stopped
                if number == context.config.design.policies.retry.max_attempts or not self._tries_again(attempt):
                    break
                folder.set_attempt_aside(number)
            return self._finish(slot, ids, variant, task, folder, attempt, number, begun)
        except OSError as error:
            if error.errno in _NO_ROOM:
                raise RunDiskFullError(
                    f"The disk of {context.run_dir} is full; trial {slot.trial_id} has no result.",
                    remedy=f"Free some, then: lab run --continue {context.run_dir}",
                ) from error
            return self._broken(slot, ids, task, folder, error, begun)

    def skipped(self, slot: Slot, error_type: ErrorType, message: str) -> TrialResult:
        """Return the result of a trial that the runner skips: outcome MISSING, no attempts."""
        context = self._context
        variant = context.config.variants[slot.variant]
        task = context.tasks.read(slot.task)
        ids = TrialIds(context.run_id, slot.trial_id, variant.variant_id, task.task_id, slot.replication)
        row = make_row(context, slot, ids, task, TrialOutcome.MISSING, (error_type.value, message), attempts=0)
        return TrialResult(row, None, {"row": row.to_json()})

    def _attempt(
        self,
        slot: Slot,
        ids: TrialIds,
        variant: Variant,
        task: Task,
        folder: TrialFolder,
        stop_now: threading.Event,
    ) -> FinishedAttempt:
        context = self._context
        folder.make()
        copied = make_workspace(context, self._previous(slot), task, folder)
        started_us, begun_us = context.clock.now_us(), uptime_us()
        launch, given = prepare_launch(context, ids, variant, task, folder, started_us)
        started = time.perf_counter()
        posture = None
        try:
            running = context.sandbox.start(launch)
            posture = running.posture
            watched = self._watch(running, task, folder, stop_now)
        except SandboxError as error:
            watched = AttemptEnd(-1, ErrorType.SANDBOX, str(error))
        duration_ms = (time.perf_counter() - started) * 1_000
        mend_input(folder, given)
        # Measured with the uptime, because the wall clock can jump during the trial.
        ended_us = started_us + uptime_us() - begun_us
        return self._read(ids, folder, copied, watched, posture, (started_us, ended_us), duration_ms)

    def _watch(self, running: RunningAttempt, task: Task, folder: TrialFolder, stop_now: threading.Event) -> AttemptEnd:
        config = self._context.config
        bounds = WatchLimits(
            seconds=wire.trial_seconds(config, task),
            grace_s=config.runtime.timeouts.grace_seconds,
            output_bytes=int(config.runtime.workspace.max_output_mb * MB),
            outputs=(folder.stdout, folder.stderr),
            disk_bytes=disk_bytes_of(self._context),
            # Without `attempts/`, which holds the files of earlier attempts.
            disk=(folder.workspace, folder.state, folder.out, folder.root / "tmp"),
            budgets=wire.budgets_of(config, task),
            events=folder.host_path(config.runtime.harness.events.path),
            root=folder.root,
            limits=limits_of(config),
        )
        try:
            if running.posture.egress_self_test.get("passed") is False:
                return AttemptEnd(running.end(0), ErrorType.EGRESS_OPEN, "the egress self-test found a way out")
            return watch(running, bounds, stop_now)
        finally:
            running.close()

    def _read(
        self,
        ids: TrialIds,
        folder: TrialFolder,
        copied: Clone,
        watched: AttemptEnd,
        posture: Posture | None,
        times_us: tuple[int, int],
        duration_ms: float,
    ) -> FinishedAttempt:
        context = self._context
        started_us, ended_us = times_us
        limit = int(context.config.runtime.workspace.max_output_mb * MB)
        for path in (folder.stdout, folder.stderr):
            cut(path, limit)
        remove_tree(folder.root / "tmp")
        if watched.ended_for is ErrorType.DISK_LIMIT:
            watched = _without_holes(watched, folder)
        context.redactor.files([folder.root])
        harness = context.config.runtime.harness
        output = wire.read_output(
            folder.host_path(harness.output_path), folder.stdout, ids, watched.exit_code, below=folder.root
        )
        events = read_events(
            folder.host_path(harness.events.path),
            ids,
            below=folder.root,
            is_answered=harness.integration_level in _ANSWERING,
        )
        after = copied.now()
        diff = compare(copied.manifest, after)
        evidence = self._evidence.write(
            folder, copied.manifest, after, diff, format_time(ended_us), folder.host_path(harness.events.path)
        )
        problem = None
        if watched.ended_for is not None:
            problem = (watched.ended_for.value, context.redactor.text(watched.message or ""))
        elif output.output is None:
            assert output.error_type is not None
            problem = (output.error_type.value, context.redactor.text(output.message or ""))
        return FinishedAttempt(
            watched, posture, started_us, ended_us, duration_ms, output, events, diff, evidence, problem
        )

    def _tries_again(self, attempt: FinishedAttempt) -> bool:
        retry_on = self._context.config.design.policies.retry.retry_on
        if attempt.watched.ended_for is ErrorType.TIMEOUT:
            return "timeout" in retry_on
        if attempt.outcome is TrialOutcome.ERROR:
            return "error" in retry_on
        return attempt.outcome is TrialOutcome.FAILURE and "failure" in retry_on

    def _finish(
        self,
        slot: Slot,
        ids: TrialIds,
        variant: Variant,
        task: Task,
        folder: TrialFolder,
        attempt: FinishedAttempt,
        number: int,
        begun: float,
    ) -> TrialResult:
        context = self._context
        self._write_output(folder, ids, attempt)
        document = inventory(context.config, attempt.posture, context.harness_identity)
        own = {INVENTORY: REF + self._evidence.link(document, folder.root / INVENTORY)}
        metrics = measure(
            context.config,
            duration_ms=attempt.duration_ms,
            exit_code=attempt.watched.exit_code,
            raw_output=attempt.output.raw,
            output=attempt.output.output,
            events=attempt.events,
            diff=attempt.diff,
            workspace=folder.workspace,
        )
        row = make_row(
            context,
            slot,
            ids,
            task,
            attempt.outcome,
            error_of(attempt),
            attempts=number,
            attempt=attempt,
            metrics=metrics,
        )
        self._keep_files(folder, attempt, row)
        if context.config.runtime.harness.integration_level is not IntegrationLevel.CLI_BASIC:
            own[STATE] = REF + self._write_state(folder, row)
        row = replace(row, overhead_ms=(time.perf_counter() - begun) * 1_000 - attempt.duration_ms)
        agent_run = agent_run_of(
            row,
            experiment_id=context.config.experiment.id,
            bindings=variant.bindings,
            events=attempt.events.events,
            trace_ids=context.services.trace_ids(folder),
        )
        entry: dict[str, Any] = {"row": row.to_json()}
        if attempt.evidence is not None:
            policy = context.config.design.policies.state.value
            entry["evidence"] = attempt.evidence.record(row, self._chain_id(ids), policy, own)
            entry["chain"] = attempt.evidence.chain(row, self._chain_id(ids), policy)
        entry["head"] = hash_chain(folder.host_path(context.config.runtime.harness.events.path), below=folder.root)
        return TrialResult(row, agent_run, entry)

    def _chain_id(self, ids: TrialIds) -> str:
        """Return the id of the trial's evidence chain: trials that continue from each other share it. Ids contain no slash."""
        policy = self._context.config.design.policies.state
        if policy is StatePolicy.ACCUMULATE:
            return ids.variant_id
        if policy is StatePolicy.PERSIST_PER_TASK:
            return f"{ids.variant_id}/{ids.task_id}"
        return f"{ids.variant_id}/{ids.task_id}/{ids.repl_idx}"

    def _write_output(self, folder: TrialFolder, ids: TrialIds, attempt: FinishedAttempt) -> None:
        written = folder.host_path(self._context.config.runtime.harness.output_path)
        if attempt.problem is None and stat.S_ISREG(_mode(written)):
            link_or_copy(written, folder.root / OUTPUT)
            return
        document = attempt.output.raw
        if attempt.problem is not None:
            error_type, message = attempt.problem
            document = wire.error_output(ids, TrialOutcome.ERROR, error_type, message)
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
        needed_later = context.config.design.policies.state.value != "isolate_per_trial"
        keeps = context.keep is Keep.ALL or (context.keep is Keep.FAILED and not row.success)
        if not keeps and not needed_later:
            remove_tree(folder.workspace)

    def _write_state(self, folder: TrialFolder, row: TrialRow) -> str:
        """Write the `trial_state_v1` of a trial; return its SHA-256 digest in hex."""
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

    def _broken(
        self, slot: Slot, ids: TrialIds, task: Task, folder: TrialFolder, error: OSError, begun: float
    ) -> TrialResult:
        """Return the result of a trial whose files could not be created, read or deleted: outcome ERROR."""
        message = self._context.redactor.text(f"{error.strerror or error}: {error.filename or folder.root}")
        row = make_row(
            self._context, slot, ids, task, TrialOutcome.ERROR, (ErrorType.WORKSPACE.value, message), attempts=1
        )
        row = replace(row, overhead_ms=(time.perf_counter() - begun) * 1_000)
        return TrialResult(row, None, {"row": row.to_json()})


def _without_holes(watched: AttemptEnd, folder: TrialFolder) -> AttemptEnd:
    """Delete files that are mostly holes, which would take the runner long to read; add their number to the message."""
    count = remove_hollow_files(folder.workspace, folder.state, folder.out)
    if not count:
        return watched
    return replace(watched, message=f"{watched.message}; {count:,} files that were mostly holes were deleted")


def _mode(path: Path) -> int:
    try:
        return path.lstat().st_mode
    except OSError:
        return 0

"""Use cases of rollouts: start, execute, restore, read, apply and roll back."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from threading import Event
from typing import Any, Final

from relab.core.clock import Clock
from relab.core.errors import RelabError
from relab.core.ids import new_id
from relab.flags.service import FlagService
from relab.jobs.models import Lane
from relab.jobs.queue import JobQueue
from relab.progress.service import ProgressLog
from relab.rollouts.agent_run import send_to_telemetry
from relab.rollouts.decisions import PersonalDecisions
from relab.rollouts.errors import PlanInvalidError
from relab.rollouts.execution.progress import OnRolloutProgress, RolloutProgress
from relab.rollouts.leases import TargetLease, TargetLeases
from relab.rollouts.models import EXECUTE_JOB
from relab.rollouts.plans.models import Plan, ReportFiles
from relab.rollouts.plans.reading import default_plan, override_plan, parse_plan, read_plan, starter_text
from relab.rollouts.record import AuditEntry, RolloutPage, RolloutPhase, RolloutRecord, RolloutStatus
from relab.rollouts.recovery import FlagRecovery, FlagRestoration
from relab.rollouts.store import RolloutStore, StoredJournal
from relab.rollouts.targets.opening import RolloutTarget, TargetOpener
from relab.storage import Database
from relab.telemetry.service import TelemetryService

__all__ = [
    "FlagRestoration",
    "Plan",
    "RolloutPage",
    "RolloutPhase",
    "RolloutProgress",
    "RolloutRecord",
    "RolloutService",
    "RolloutStatus",
    "default_plan",
    "override_plan",
    "parse_plan",
    "read_plan",
    "starter_text",
]

_MAX_STEP: Final = 200


class RolloutService:
    """Rollouts of this installation.

    Args:
        database, clock, queue, progress: those of this process.
        flags: this product's flags, for rollouts that change one.
        telemetry: stores each rollout as an agent run.
        home: the folder of lock files and of reports of rollouts that were started over HTTP.
        environment: the environment variables that headers in plans may name.
    """

    def __init__(
        self,
        database: Database,
        clock: Clock,
        queue: JobQueue,
        progress: ProgressLog,
        flags: FlagService,
        telemetry: TelemetryService,
        *,
        home: Path,
        environment: Mapping[str, str],
    ) -> None:
        self._database = database
        self._clock = clock
        self._queue = queue
        self._progress = progress
        self._telemetry = telemetry
        self._home = home
        self._store = RolloutStore(database)
        self._leases = TargetLeases(database, clock, home / "locks")
        self._opener = TargetOpener(flags, environment)
        self._recovery = FlagRecovery(self._store, self._leases, self._opener, telemetry, clock)
        self._decisions = PersonalDecisions(self._store, self._leases, self._opener, self._recovery, telemetry, clock)

    def run(
        self,
        plan: Plan,
        *,
        by: str,
        stop: Event,
        on_progress: OnRolloutProgress,
        root: Path,
        is_dry_run: bool = False,
    ) -> RolloutRecord:
        """Execute a rollout in this process, to its end, and write its reports.

        Args:
            plan: the plan.
            by: the person who starts it.
            root: the folder to which the plan's report paths are relative.
            stop: ends the rollout early when set; the flags are restored.
            on_progress: is called with the progress when a phase begins, and after each window.
            is_dry_run: check the health and derive the changes, without changing or measuring anything.

        Raises:
            ReportFolderError: the reports cannot be written; nothing was changed.
            TargetBusyError: another rollout of the same flags is running.
            RelabError: the rollout failed; the flags are as they were, unless the message says otherwise.
        """
        from relab.rollouts.reports import check_writable

        if not is_dry_run:
            check_writable(plan, root)
        target = self._opener.open(plan)
        record = self._new_record(plan, target, by=by, is_dry_run=is_dry_run)
        with self._leases.hold(target.flags.name, record.rollout_id) as lease:
            self._recovery.settle(target.flags.name)
            with self._database.write() as unit:
                self._store.add(unit, record, is_job=False)
            return self._execute(record, target, lease, stop, on_progress, root)

    def request(self, plan: Plan, *, by: str) -> RolloutRecord:
        """Queue a rollout for a worker, and return its record; its reports are written below the service's `home`.

        `by` is the person or token that starts it.

        Raises:
            PlanInvalidError: the plan names files of the machine that runs the worker.
            SubjectError: the plan needs an environment variable that is not set or not allowed.
        """
        _reject_files(plan)
        record = self._new_record(plan, self._opener.open(plan), by=by)
        with self._database.write() as unit:
            self._store.add(unit, record, is_job=True)
            self._queue.enqueue(
                unit,
                EXECUTE_JOB,
                {"rollout_id": record.rollout_id},
                lane=Lane.LONG,
                job_id=record.rollout_id,
            )
            self._progress.publish_within(
                unit, record.rollout_id, status="queued", step="plan", pct=0, message="The rollout is queued."
            )
        return record

    def execute(self, rollout_id: str, stop: Event) -> RolloutRecord:
        """Execute a queued rollout, or continue one whose worker has died; do nothing if it is over.

        Windows of complete rounds are not measured again. `stop`, when set, ends the rollout early and restores the flags.

        Raises:
            RolloutNotFoundError: no rollout has this id.
            TargetBusyError: another rollout of the same flags is running; the job is retried later.
            DatabaseUnavailableError: the database cannot be used; the job is retried later.
            RelabError: the rollout cannot be executed, or failed.
        """
        from relab.rollouts.reports import check_writable

        found = self._store.get(rollout_id)
        if found.record.status.is_over:
            return found.record
        target = self._opener.open(found.record.plan)
        check_writable(found.record.plan, self._folder(rollout_id))
        with self._leases.hold(target.flags.name, rollout_id) as lease:
            self._recovery.settle(target.flags.name)
            record = self._store.get(rollout_id).record
            return self._execute(record, target, lease, stop, self._publisher(rollout_id), self._folder(rollout_id))

    def fail(self, rollout_id: str, error: str) -> None:
        """Mark a rollout whose job was given up as failed, with the message `error`; first restore its flags if possible."""
        self.recover()
        record = self._store.get(rollout_id).record
        if not record.status.is_over:
            self._finish(
                record.model_copy(
                    update={"status": RolloutStatus.FAILED, "error": error, "finished_at": self._clock.now_us()}
                ),
                closes_change=False,
            )

    def recover(self) -> list[FlagRestoration]:
        """Restore the flags of all rollouts whose process has died; see `FlagRecovery.recover`."""
        return self._recovery.recover()

    def summary(self, rollout_id: str) -> str:
        """Return the summary of a rollout as text.

        Raises:
            RolloutNotFoundError: no rollout has this id.
        """
        from relab.rollouts.reports import summary_text

        return summary_text(self.get(rollout_id))

    @staticmethod
    def history(plan: Plan, root: Path) -> tuple[list[dict[str, Any]], str | None]:
        """Return the lines of a plan's history, oldest first, and what is wrong with the first changed one (None: nothing).

        A line is the result of `history_entry`, with the fields `previous` and `hash`.

        Args:
            plan: names the history.
            root: the folder to which its path is relative.
        """
        from relab.rollouts.reports import paths_of, read_history, verify_history

        path = paths_of(plan, root).history
        entries = read_history(path)
        problem = verify_history(path) if entries else None
        return entries, None if problem is None else f"{path}:{problem.line}: {problem.message}"

    def get(self, rollout_id: str) -> RolloutRecord:
        """Return a rollout with its windows.

        Raises:
            RolloutNotFoundError: no rollout has this id.
        """
        return self._store.get(rollout_id).record

    def list_rollouts(self, *, before: str | None = None, limit: int = 50) -> RolloutPage:
        """Return a page of at most `limit` rollouts, newest first; with `before`, only those with lower ids."""
        items = self._store.list_records(before=before, limit=limit + 1)
        return RolloutPage(items=items[:limit], next_before=items[limit - 1].rollout_id if len(items) > limit else None)

    def apply(self, rollout_id: str, *, by: str, note: str = "") -> RolloutRecord:
        """Apply the change of a rollout by the decision of the person `by`; see `PersonalDecisions.apply`."""
        return self._decisions.apply(rollout_id, by=by, note=note)

    def roll_back(self, rollout_id: str, *, by: str, note: str = "") -> RolloutRecord:
        """Restore the flags from before a rollout by the decision of the person `by`; see `PersonalDecisions.roll_back`."""
        return self._decisions.roll_back(rollout_id, by=by, note=note)

    def _execute(
        self,
        record: RolloutRecord,
        target: RolloutTarget,
        lease: TargetLease,
        stop: Event,
        on_progress: OnRolloutProgress,
        root: Path,
    ) -> RolloutRecord:
        from relab.rollouts.execution.executor import RolloutExecution
        from relab.rollouts.reports import mini_json, mini_text, write_reports

        journal = StoredJournal(self._store, record.rollout_id, lease)
        execution = RolloutExecution(record, target, journal, self._clock, stop=stop, on_progress=on_progress)
        try:
            ended = execution.run()
        except RelabError as error:
            failed = self._failed(execution.record, str(error))
            self._finish(failed, closes_change=False)
            if not record.is_dry_run:
                write_reports(failed, root)
            raise
        self._finish(ended, closes_change=True)
        if not record.is_dry_run:
            write_reports(ended, root)
            target.put_report({**mini_json(ended), "text": mini_text(ended)})
        return ended

    def _folder(self, rollout_id: str) -> Path:
        """Return the folder of the reports of a rollout that a worker executes."""
        return self._home / rollout_id

    def _failed(self, record: RolloutRecord, error: str) -> RolloutRecord:
        return record.model_copy(
            update={
                "status": RolloutStatus.FAILED,
                "error": record.error or error,
                "finished_at": self._clock.now_us(),
            }
        )

    def _finish(self, record: RolloutRecord, *, closes_change: bool) -> None:
        """Store the end of a rollout, end its progress stream, and send it to telemetry."""
        is_closed = closes_change or record.flags_restored is not False
        self._store.save(record, closes_change=is_closed)
        verdict = "" if record.judgement is None else f"{record.judgement.verdict.value}: {record.judgement.reason}"
        status = "done" if record.status is RolloutStatus.DONE else "failed"
        self._progress.publish(
            record.rollout_id,
            status=status,
            step=record.phase.value,
            pct=100,
            message=record.error or verdict or "The rollout has ended.",
        )
        send_to_telemetry(self._telemetry, record)

    def _publisher(self, rollout_id: str) -> OnRolloutProgress:
        def publish(progress: RolloutProgress) -> None:
            self._progress.publish(
                rollout_id,
                status="running",
                step=progress.phase.value[:_MAX_STEP],
                pct=progress.done_pct,
                message=progress.sentence(),
            )

        return publish

    def _new_record(self, plan: Plan, target: RolloutTarget, *, by: str, is_dry_run: bool = False) -> RolloutRecord:
        now = self._clock.now_us()
        return RolloutRecord(
            rollout_id=new_id(),
            plan=plan,
            target=target.flags.name,
            requested_by=by,
            created_at=now,
            is_dry_run=is_dry_run,
            audit=(AuditEntry(at=now, actor=by, action="requested"),),
        )


def _reject_files(plan: Plan) -> None:
    """Reject a plan that names files, because it comes over HTTP, and the files would be those of the worker's machine.

    Raises:
        PlanInvalidError: the mix is no built-in one, or a report path is not the default.
    """
    from relab.load.service import built_in_names

    problems = [
        (f"report.{name}", "cannot be set in a rollout that is started over HTTP")
        for name in ("output_path", "history_path")
        if getattr(plan.report, name) != ReportFiles.model_fields[name].default
    ]
    if plan.experiment.mix not in built_in_names():
        names = ", ".join(built_in_names())
        problems.append(("experiment.mix", f"must be one of {names} in a rollout that is started over HTTP"))
    if problems:
        raise PlanInvalidError("The plan names files of the server.", problems=tuple(problems))

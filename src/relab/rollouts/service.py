"""Use cases of rollouts: start, execute, restore, read, apply and roll back."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from threading import Event
from typing import Final

from pydantic import BaseModel

from relab.core.clock import Clock
from relab.core.errors import RelabError
from relab.core.ids import new_id
from relab.flags.service import FlagService
from relab.jobs.models import Lane
from relab.jobs.queue import JobQueue
from relab.progress.service import ProgressLog
from relab.rollouts.agent_run import send_to_telemetry
from relab.rollouts.decisions import PersonalDecisions
from relab.rollouts.execution.executor import RolloutExecution
from relab.rollouts.execution.progress import OnRolloutProgress, RolloutProgress
from relab.rollouts.leases import TargetLease, TargetLeases
from relab.rollouts.plans.models import Plan
from relab.rollouts.plans.reading import default_plan, override_plan, parse_plan, read_plan, starter_text
from relab.rollouts.record import AuditEntry, RolloutPhase, RolloutRecord, RolloutStatus
from relab.rollouts.recovery import FlagRecovery, FlagRestoration
from relab.rollouts.store import RolloutStore, StoredJournal
from relab.rollouts.targets.opening import RolloutTarget, TargetOpener
from relab.storage import Database
from relab.telemetry.service import TelemetryService

__all__ = [
    "EXECUTE_JOB",
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

EXECUTE_JOB: Final = "rollouts.execute"
_MAX_STEP: Final = 200


class RolloutPage(BaseModel):
    """A page of rollouts without windows, newest first; `next_before` is the `before` of the next page."""

    items: list[RolloutRecord]
    next_before: str | None


class RolloutService:
    """Rollouts of this installation.

    Args:
        database, clock, queue, progress: of the process.
        flags: this product's flags, for rollouts that change one.
        telemetry: stores each rollout as an agent run.
        home: the folder of lock files and of reports of rollouts that were started over HTTP.
        environment: variables for headers of plans.
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
        is_dry_run: bool = False,
    ) -> RolloutRecord:
        """Execute a rollout in this process, to its end.

        Args:
            plan: the plan.
            by: the person who starts it.
            stop: ends the rollout early when set; the flags are restored.
            on_progress: is called with the progress.
            is_dry_run: check the health and derive the changes, without changing or measuring anything.

        Raises:
            TargetBusyError: another rollout of the same flags is running.
            RelabError: the rollout failed; the flags are as they were, unless the message says otherwise.
        """
        target = self._opener.open(plan)
        record = self._new_record(plan, target, by=by, is_dry_run=is_dry_run)
        with self._leases.hold(target.flags.name, record.rollout_id) as lease:
            self._recovery.settle(target.flags.name)
            with self._database.write() as unit:
                self._store.add(unit, record, is_job=False)
            return self._execute(record, target, lease, stop, on_progress)

    def request(self, plan: Plan, *, by: str) -> RolloutRecord:
        """Queue a rollout for a worker, and return its record.

        Raises:
            SubjectError: the plan needs an environment variable that is not set or not allowed.
        """
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

        Windows of complete rounds are not measured again.

        Raises:
            RolloutNotFoundError: no rollout has this id.
            TargetBusyError: another rollout of the same flags is running; the job is retried later.
            DatabaseUnavailableError: the database cannot be used; the job is retried later.
        """
        found = self._store.get(rollout_id)
        if found.record.status.is_over:
            return found.record
        target = self._opener.open(found.record.plan)
        with self._leases.hold(target.flags.name, rollout_id) as lease:
            self._recovery.settle(target.flags.name)
            record = self._store.get(rollout_id).record
            return self._execute(record, target, lease, stop, self._publisher(rollout_id))

    def fail(self, rollout_id: str, error: str) -> None:
        """Mark a rollout as failed whose job was given up; restore its flags first if the target answers."""
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
        """Apply the change of a rollout by a person's decision; see `PersonalDecisions.apply`."""
        return self._decisions.apply(rollout_id, by=by, note=note)

    def roll_back(self, rollout_id: str, *, by: str, note: str = "") -> RolloutRecord:
        """Restore the flags from before a rollout whose change is in force; see `PersonalDecisions.roll_back`."""
        return self._decisions.roll_back(rollout_id, by=by, note=note)

    def _execute(
        self,
        record: RolloutRecord,
        target: RolloutTarget,
        lease: TargetLease,
        stop: Event,
        on_progress: OnRolloutProgress,
    ) -> RolloutRecord:
        journal = StoredJournal(self._store, record.rollout_id, lease)
        execution = RolloutExecution(record, target, journal, self._clock, stop=stop, on_progress=on_progress)
        try:
            ended = execution.run()
        except RelabError as error:
            self._finish(self._failed(execution.record, str(error)), closes_change=False)
            raise
        self._finish(ended, closes_change=True)
        return ended

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

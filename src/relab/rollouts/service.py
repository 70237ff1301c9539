"""Use cases of rollouts: start, execute, restore, read, apply and roll back."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Any

from relab.core.clock import Clock
from relab.core.ids import new_id
from relab.flags.service import FlagService
from relab.jobs.models import Lane
from relab.jobs.queue import JobQueue
from relab.progress.service import ProgressLog
from relab.rollouts.execution.progress import OnRolloutProgress, RolloutProgress
from relab.rollouts.models import EXECUTE_JOB, MAX_EXECUTIONS, ExperimentQuestion
from relab.rollouts.obstacles import pass_obstacles, planned_time
from relab.rollouts.plans.models import Plan
from relab.rollouts.plans.reading import default_plan, flag_plan, override_plan, parse_plan, read_plan, starter_text
from relab.rollouts.plans.schedule import blind_spots
from relab.rollouts.record import AuditEntry, RolloutPage, RolloutPhase, RolloutRecord, RolloutStatus
from relab.rollouts.remote_plans import reject_files, reject_hosts
from relab.storage import Database
from relab.telemetry.service import TelemetryService

if TYPE_CHECKING:
    from relab.experiments.service import ExperimentService
    from relab.llm import LlmGateway
    from relab.rollouts.commentary import Commentary
    from relab.rollouts.experiment_gate import GatedRollout
    from relab.rollouts.recovery import FlagRestoration
    from relab.rollouts.targets.opening import RolloutTarget

__all__ = [
    "Plan",
    "RolloutPage",
    "RolloutPhase",
    "RolloutProgress",
    "RolloutRecord",
    "RolloutService",
    "RolloutStatus",
    "blind_spots",
    "default_plan",
    "flag_plan",
    "override_plan",
    "parse_plan",
    "pass_obstacles",
    "planned_time",
    "read_plan",
    "starter_text",
]


class RolloutService:
    """Starts, stops, applies, rolls back and reads the rollouts of this installation.

    Args:
        database, clock, queue, progress: the database, clock, job queue and progress events of this process.
        flags: relab's own feature flags, for rollouts that change one of them.
        telemetry: stores each rollout as an agent run.
        experiments: returns the service that compares variants of experiments.
        gateway: returns the gateway to the language model, for commentaries.
        home: the folder for lock files and for reports of rollouts started over HTTP.
        environment: the environment variables; HTTP headers of a plan may use those that begin with `ROLLOUT_`.
        allowed_hosts: the hosts, besides this machine, to which a plan that came over HTTP may send requests.
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
        experiments: Callable[[], ExperimentService],
        gateway: Callable[[], LlmGateway],
        home: Path,
        environment: Mapping[str, str],
        allowed_hosts: Collection[str],
    ) -> None:
        # The server imports this module for its models, and most of the time executes no rollout.
        from relab.rollouts.decisions import PersonalDecisions
        from relab.rollouts.leases import TargetLeases
        from relab.rollouts.recovery import FlagRecovery
        from relab.rollouts.running import RolloutRunner
        from relab.rollouts.stops import RolloutStops
        from relab.rollouts.store import RolloutStore
        from relab.rollouts.targets.opening import TargetOpener

        self._database = database
        self._clock = clock
        self._queue = queue
        self._progress = progress
        self._experiments = experiments
        self._gateway = gateway
        self._home = home
        self._allowed_hosts = frozenset(host.lower() for host in allowed_hosts)
        self._store = RolloutStore(database)
        self._leases = TargetLeases(database, clock, home / "locks")
        self._runner = RolloutRunner(database, clock, self._store, progress, telemetry)
        self._opener = TargetOpener(flags, environment)
        self._recovery = FlagRecovery(self._store, self._leases, self._opener, telemetry, clock)
        self._stops = RolloutStops(self._store, self._leases, self._recovery, self._runner, clock)
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
        """Execute a rollout in this process to its end, write its reports, and return its record.

        Args:
            plan: the plan.
            by: the person who starts it.
            root: the base folder of relative report paths in the plan.
            stop: ends the rollout early when set; the flags are restored.
            on_progress: is called with the progress when a phase begins, and after each measurement.
            is_dry_run: check health and compute the changes of flags, but change nothing. Not stored if it fails.

        Raises:
            ReportFolderError: the reports cannot be written; the old flags are in force.
            TargetBusyError: another rollout of the same flags is running.
            RelabError: the rollout failed; the flags are restored, unless the message says otherwise.
        """
        from relab.rollouts.reports import check_writable

        if not is_dry_run:
            check_writable(plan, root)
        target = self._opener.open(plan)
        record = self._new_record(plan, target, by=by, is_dry_run=is_dry_run)
        with self._leases.hold(target.flags.name, record.rollout_id) as lease:
            self._recovery.settle(target.flags.name)
            ended, error = self._runner.start(record, target, lease, stop, on_progress)
        return self._runner.conclude(ended, error, target, root)

    def run_from_experiment(
        self,
        plan: Plan,
        question: ExperimentQuestion,
        *,
        by: str,
        stop: Event,
        on_progress: OnRolloutProgress,
        root: Path,
        is_dry_run: bool = False,
    ) -> GatedRollout:
        """Apply the new flags of a plan if a variant of an experiment passes the given gates (conditions).

        The rollout measures nothing itself, except the steps of a canary. If an earlier call decided the same plan by
        the same comparison, this call changes nothing and returns that rollout.

        Args:
            plan: the target and its flags; the new flags correspond to the variant.
            question: the experiment's run, the variant, and the gates.
            by: the person who starts the rollout.
            stop: ends a canary early when set; the flags are restored.
            on_progress: is called with the progress when a phase begins.
            root: the base folder of relative report paths in the plan.
            is_dry_run: judge, check the target's health, and compute the changes of flags, but change nothing.

        Raises:
            ExperimentEvidenceError: the run cannot be judged, or lacks the variant.
            PlanInvalidError: the plan sets a field that has no effect here, such as the number of measurements.
            RolloutStateError: a person has rolled back this change, or its flags were changed since.
            RelabError: the rollout failed; the flags are restored, unless the message says otherwise.
        """
        from relab.rollouts.experiment_gate import GatedRollout, check_plan, earlier_decision, read_evidence
        from relab.rollouts.reports import check_writable

        check_plan(plan)
        evidence, judgement = read_evidence(self._experiments(), question)
        if not is_dry_run:
            check_writable(plan, root)
        target = self._opener.open(plan)
        record = self._new_record(plan, target, by=by, is_dry_run=is_dry_run).model_copy(
            update={"experiment": evidence, "judgement": judgement}
        )
        with self._leases.hold(target.flags.name, record.rollout_id) as lease:
            self._recovery.settle(target.flags.name)
            stored = [] if is_dry_run else self._store.list_of_target(record.target)
            if (earlier := earlier_decision(stored, record, target)) is not None:
                return GatedRollout(self.get(earlier.rollout_id), is_repeat=True)
            ended, error = self._runner.start(record, target, lease, stop, on_progress)
        return GatedRollout(self._runner.conclude(ended, error, target, root), is_repeat=False)

    def request(self, plan: Plan, *, by: str) -> RolloutRecord:
        """Queue a rollout for a worker, and return its record.

        Args:
            plan: the plan.
            by: the person or token that starts the rollout.

        Raises:
            PlanInvalidError: the plan names local files, or a host that is not allowed.
            SubjectError: the plan needs an environment variable that is not set or not allowed.
        """
        reject_files(plan)
        reject_hosts(plan, self._allowed_hosts)
        record = self._new_record(plan, self._opener.open(plan), by=by)
        with self._database.write() as unit:
            self._store.add(unit, record, is_job=True)
            self._queue.enqueue(
                unit,
                EXECUTE_JOB,
                {"rollout_id": record.rollout_id},
                lane=Lane.LONG,
                max_attempts=MAX_EXECUTIONS,
                job_id=record.rollout_id,
            )
            self._progress.publish_within(
                unit, record.rollout_id, status="queued", step="plan", pct=0, message="The rollout is queued."
            )
        return record

    def execute(self, rollout_id: str, stop: Event) -> RolloutRecord:
        """Execute a queued rollout, or continue a rollout whose worker has died, and return its record.

        Complete rounds (one measurement of each set of flags) are not measured again. If the rollout is over, nothing
        is measured; changed flags are restored. If `stop` (a `JobStop`) is set, the flags are restored and the execution ends.

        Raises:
            RolloutNotFoundError: no rollout has this id.
            TargetBusyError, DatabaseUnavailableError: another rollout uses the flags, or there is no database; try again.
            TargetLeaseLostError: another process has taken over the rollout.
            WorkerStoppingError: the worker stops; the flags were restored, and a retry continues the rollout.
            EndNotStoredError: the new flags are in force, but this could not be stored or reported.
            RelabError: the rollout cannot be executed, or failed.
        """
        from relab.rollouts.reports import check_writable

        found = self._store.get(rollout_id)
        if found.record.status.is_over and found.open_change is None:
            # The worker may have died, or failed, between storing the end and publishing it.
            self._runner.publish_end(found.record)
            return found.record
        if found.open_change is None and (request := self._store.stop_request(rollout_id)) is not None:
            return self._stops.end(found.record, request)
        target = self._opener.open(found.record.plan)
        with self._leases.hold(target.flags.name, rollout_id) as lease:
            self._recovery.settle(target.flags.name)
            record = self._store.get(rollout_id).record
            if record.status.is_over:
                self._runner.publish_end(record)
                return record
            check_writable(record.plan, self._folder(rollout_id))
            ended, error = self._runner.execute(record, target, lease, stop, self._runner.publisher(rollout_id))
        return self._runner.conclude(ended, error, target, self._folder(rollout_id))

    def fail(self, rollout_id: str, error: str) -> None:
        """Mark a rollout as failed with the message `error`, unless the rollout is over.

        In both cases, first restore the flags of all rollouts whose process has died.

        Raises:
            RolloutNotFoundError: no rollout has this id.
        """
        self.recover()
        record = self._store.get(rollout_id).record
        if not record.status.is_over:
            failed = record.model_copy(
                update={"status": RolloutStatus.FAILED, "error": error, "finished_at": self._clock.now_us()}
            )
            self._runner.store_end(failed)
            self._runner.publish_end(failed)

    def must_restore(self, rollout_id: str) -> bool:
        """Return whether the rollout may have left changed flags that must be restored.

        Raises:
            RolloutNotFoundError: no rollout has this id.
        """
        return self._store.get(rollout_id).open_change is not None

    def stop(self, rollout_id: str, *, by: str, note: str = "") -> RolloutRecord:
        """Request the stop of a rollout, as the person `by` with the reason `note`; return the rollout's record.

        If a process executes the rollout, that process restores the flags and ends the rollout within seconds. If no
        process uses the target, this call does both. If another rollout of the target is running, the next attempt to
        execute this rollout ends it. In the first and third case, the returned record may not show the end yet.

        Raises:
            RolloutNotFoundError: no rollout has this id.
            RolloutStateError: the rollout is over.
            RelabError: no process executes the rollout, and its flags cannot be restored now.
        """
        return self._stops.request(rollout_id, by=by, note=note)

    def publish_wait(self, rollout_id: str, reason: str) -> None:
        """Publish, as progress, why a rollout must wait; return at once. Do nothing if the rollout is over."""
        self._runner.publish_wait(self._store.get(rollout_id).record, reason)

    def recover(self) -> list[FlagRestoration]:
        """Restore the flags of rollouts whose process has died; return a result for each rollout with changed flags."""
        return self._recovery.recover()

    def summary(self, rollout_id: str) -> str:
        """Return the summary of a rollout as text.

        Raises:
            RolloutNotFoundError: no rollout has this id.
        """
        from relab.rollouts.reports import summary_text

        return summary_text(self.get(rollout_id))

    def comment(self, rollout_id: str) -> Commentary:
        """Return a language model's commentary on a rollout that is over; it is not stored and changes nothing.

        Raises:
            RolloutNotFoundError, RolloutStateError: there is no such rollout, or it is not over.
            LlmError: there is no model, its budget is spent, or it gave no valid answer.
        """
        from relab.rollouts.commentary import comment_on

        return comment_on(self.get(rollout_id), self.summary(rollout_id), self._gateway())

    @staticmethod
    def history(plan: Plan, root: Path) -> tuple[list[dict[str, Any]], str | None]:
        """Return `(lines, message)`: the lines of a plan's history, oldest first, and the first damage of the history.

        A line describes one rollout. The message names the first line that is incomplete or was changed after it was
        written; None if all lines are intact.

        Args:
            plan: the plan; its section `report` has the path of the history.
            root: the base folder of this path if it is relative.

        Raises:
            ReportFolderError: the history cannot be read.
        """
        from relab.rollouts.reports import paths_of, read_history, verify_history

        path = paths_of(plan, root).history
        entries, problem = read_history(path), verify_history(path)
        return entries, None if problem is None else f"{path}:{problem.line}: {problem.message}"

    def get(self, rollout_id: str) -> RolloutRecord:
        """Return a rollout with its windows (measurements).

        Raises:
            RolloutNotFoundError: no rollout has this id.
        """
        return self._store.get(rollout_id).record

    def list_rollouts(self, *, before: str | None = None, limit: int = 50) -> RolloutPage:
        """Return a page of at most `limit` rollouts with ids below `before` (None: any ids), newest first."""
        items = self._store.list_records(before=before, limit=limit + 1)
        return RolloutPage(items=items[:limit], next_before=items[limit - 1].rollout_id if len(items) > limit else None)

    def counts(self) -> dict[tuple[str, str | None], int]:
        """Return `{(status, verdict): number of stored rollouts}`; the verdict is None before the judgement.

        Each status has the key (status, None), even if its number is 0.
        """
        return {(status.value, None): 0 for status in RolloutStatus} | self._store.counts()

    def apply(self, rollout_id: str, *, by: str, note: str = "") -> RolloutRecord:
        """Apply the new flags of an ended rollout with the verdict EDGE or PASS, and return the updated record.

        `by` is the person who decided this, `note` the reason.

        Raises:
            RelabError: see `PersonalDecisions.apply`.
        """
        return self._decisions.apply(rollout_id, by=by, note=note)

    def roll_back(self, rollout_id: str, *, by: str, note: str = "") -> RolloutRecord:
        """Restore the flags from before an ended rollout, and return the updated record.

        `by` is the person who decided this, `note` the reason.

        Raises:
            RelabError: see `PersonalDecisions.roll_back`.
        """
        return self._decisions.roll_back(rollout_id, by=by, note=note)

    def _folder(self, rollout_id: str) -> Path:
        """Return the folder for the reports of a rollout, if a worker executes the rollout."""
        return self._home / rollout_id

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

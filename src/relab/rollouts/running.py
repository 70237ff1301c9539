"""Run a rollout under the lease of its target, and store, publish and report its end."""

from __future__ import annotations

from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Final

from relab.core.clock import Clock
from relab.core.errors import UnavailableError
from relab.progress.service import ProgressLog
from relab.rollouts.agent_run import send_to_telemetry
from relab.rollouts.errors import EndNotStoredError, TargetLeaseLostError, WorkerStoppingError
from relab.rollouts.execution.progress import OnRolloutProgress, RolloutProgress
from relab.rollouts.leases import TargetLease
from relab.rollouts.record import RolloutRecord, RolloutStatus
from relab.rollouts.stopping import obeying_requests
from relab.rollouts.store import RolloutStore, StoredJournal
from relab.storage import Database
from relab.storage.errors import DatabaseUnavailableError
from relab.telemetry.service import TelemetryService

if TYPE_CHECKING:
    from relab.rollouts.targets.opening import RolloutTarget

_MAX_STEP: Final = 200


class RolloutRunner:
    """Executes rollouts while the caller holds the lease of the target.

    After the caller has released the lease, `conclude` publishes the end of the rollout and writes its reports.
    """

    def __init__(
        self,
        database: Database,
        clock: Clock,
        store: RolloutStore,
        progress: ProgressLog,
        telemetry: TelemetryService,
    ) -> None:
        self._database = database
        self._clock = clock
        self._store = store
        self._progress = progress
        self._telemetry = telemetry

    def start(
        self,
        record: RolloutRecord,
        target: RolloutTarget,
        lease: TargetLease,
        stop: Event,
        on_progress: OnRolloutProgress,
    ) -> tuple[RolloutRecord, Exception | None]:
        """Store a new rollout and execute it in this process; return (final record, error that ended it or None).

        A dry run is stored only at its end. If a dry run fails, its error is raised and nothing is stored.

        Args:
            record: the new rollout.
            target: the target whose flags are changed and measured.
            lease: the held lease of the target.
            stop: ends the rollout early when it is set.
            on_progress: is called with the progress of the rollout.

        Raises:
            TargetLeaseLostError: another process has taken over the rollout.
            DatabaseUnavailableError, EndNotStoredError: the end cannot be stored; a later process ends the rollout.
        """
        from relab.rollouts.execution.executor import RolloutExecution

        if not record.is_dry_run:
            with self._database.write() as unit:
                self._store.add(unit, record, is_job=False)
            return self.execute(record, target, lease, stop, on_progress)
        journal = StoredJournal(self._store, record.rollout_id, lease)
        ended = RolloutExecution(record, target, journal, self._clock, stop=stop, on_progress=on_progress).run()
        with self._database.write() as unit:
            self._store.add(unit, ended, is_job=False)
        send_to_telemetry(self._telemetry, ended)
        return ended, None

    def execute(
        self,
        record: RolloutRecord,
        target: RolloutTarget,
        lease: TargetLease,
        stop: Event,
        on_progress: OnRolloutProgress,
    ) -> tuple[RolloutRecord, Exception | None]:
        """Execute a stored rollout and store its end.

        Args:
            record: the rollout.
            target: the target whose flags are changed and measured.
            lease: the held lease of the target.
            stop: ends the rollout early when it is set.
            on_progress: is called with the progress of the rollout.

        Returns:
            (final record, error that ended the rollout or None).

        Raises:
            TargetLeaseLostError: another process has taken over the rollout.
            DatabaseUnavailableError, EndNotStoredError: the end cannot be stored; a later process ends or continues the
                rollout.
            WorkerStoppingError: the worker stops; another worker continues the rollout.
        """
        from relab.rollouts.execution.executor import RolloutExecution

        journal = StoredJournal(self._store, record.rollout_id, lease)
        execution = RolloutExecution(record, target, journal, self._clock, stop=stop, on_progress=on_progress)
        try:
            with obeying_requests(self._store, record.rollout_id, stop):
                ended = execution.run()
        except (TargetLeaseLostError, DatabaseUnavailableError, EndNotStoredError, WorkerStoppingError):
            raise
        except Exception as error:  # noqa: BLE001 raised by `conclude`
            values = {
                "status": RolloutStatus.FAILED,
                "error": execution.record.error or str(error) or type(error).__name__,
                "finished_at": self._clock.now_us(),
            }
            failed = execution.record.model_copy(update=values)
            self.store_end(failed)
            return failed, error
        if ended.status is RolloutStatus.INTERRUPTED:
            # The journal has added the request of the person who stopped it.
            ended = self._store.get(record.rollout_id).record
        send_to_telemetry(self._telemetry, ended)
        return ended, None

    def conclude(
        self, ended: RolloutRecord, error: Exception | None, target: RolloutTarget, root: Path
    ) -> RolloutRecord:
        """Publish the end of a rollout to clients that follow its progress, write its reports, and return `ended`.

        A dry run has no reports. If the rollout ended without an error, its report is also sent to the target. The
        caller must have released the rollout's lease on the target.

        Args:
            ended: the final record, from `execute` or `start`.
            error: the error from `execute` or `start`; if not None, it is raised after the reports are written.
            target: the target.
            root: the folder for the reports.

        Raises:
            EndNotStoredError: the end could not be published or a report not written, and the new flags are in force.
            UnavailableError: the end could not be published or a report not written; the new flags are not in force.
        """
        from relab.rollouts.reports import mini_json, mini_text, write_reports

        try:
            # A client that follows the rollout to its end can apply it at once: the lease is free.
            self.publish_end(ended)
            if not ended.is_dry_run:
                write_reports(ended, root)
        except UnavailableError as failure:
            if ended.application is None or not ended.application.applied:
                raise
            raise EndNotStoredError(
                f"The new flags of {ended.target} are in force, but that could not be reported: {failure.message}",
                remedy=f"lab rollout show {ended.rollout_id}",
            ) from failure
        if error is not None:
            raise error
        if not ended.is_dry_run:
            target.put_report({**mini_json(ended), "text": mini_text(ended)})
        return ended

    def store_end(self, record: RolloutRecord) -> None:
        """Store the record of an ended rollout, and the rollout as an agent run in telemetry.

        The stored `OpenChange` (how to restore the flags) is kept; only a restoration of the flags deletes it.
        """
        # Only a restoration of the flags deletes the `OpenChange`.
        self._store.save(record)
        send_to_telemetry(self._telemetry, record)

    def publish_end(self, record: RolloutRecord) -> None:
        """Publish the last progress event of a rollout, which ends its progress stream."""
        verdict = "" if record.judgement is None else f"{record.judgement.verdict.value}: {record.judgement.reason}"
        status = "done" if record.status is RolloutStatus.DONE else "failed"
        self._progress.publish(
            record.rollout_id,
            status=status,
            step=record.phase.value,
            pct=100,
            message=record.error or verdict or "The rollout has ended.",
        )

    def publish_wait(self, record: RolloutRecord, reason: str) -> None:
        """Publish, as progress, why a rollout must wait; do nothing if the rollout is over."""
        if not record.status.is_over:
            self._progress.publish(
                record.rollout_id,
                status=record.status.value,
                step=record.phase.value,
                pct=0,
                message=f"Waiting: {reason}",
            )

    def publisher(self, rollout_id: str) -> OnRolloutProgress:
        """Return a function that publishes the progress of a rollout to its followers (clients)."""

        def publish(progress: RolloutProgress) -> None:
            self._progress.publish(
                rollout_id,
                status="running",
                step=progress.phase.value[:_MAX_STEP],
                pct=progress.done_pct,
                message=progress.sentence(),
            )

        return publish

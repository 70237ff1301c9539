"""Store and read rollouts: records, windows, and how to restore the flags. Each method is a transaction."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from relab.core.logging import get_logger
from relab.core.stored_documents import STORED
from relab.rollouts import repository
from relab.rollouts.errors import RolloutNotFoundError
from relab.rollouts.leases import TargetLease
from relab.rollouts.models import ArmWindow
from relab.rollouts.record import AuditEntry, OpenChange, RolloutPhase, RolloutRecord, RolloutStatus
from relab.storage import Database, UnitOfWork
from relab.storage.errors import DatabaseUnavailableError

_STORED_PHASES: Final = frozenset((RolloutPhase.EXECUTE, RolloutPhase.JUDGE, RolloutPhase.APPLY))
"""Phases that are stored when they begin. A restoration of flags must not wait for the database; the other phases are
stored at their end."""
_log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class StoredRollout:
    """A stored rollout, with the data for its execution and for the restoration of its flags after a crash.

    Attributes:
        record: the record of the rollout.
        open_change: how to restore the flags; None if they need no restoration.
        is_job: whether a worker executes the rollout as a job.
    """

    record: RolloutRecord
    open_change: OpenChange | None
    is_job: bool


class RolloutStore:
    """Stores and reads rollouts in the database: records, measurements, stop requests, and how to restore flags."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, unit: UnitOfWork, record: RolloutRecord, *, is_job: bool) -> None:
        """Insert a new rollout in the caller's transaction `unit`; `is_job` says whether a worker executes it."""
        values = {**_columns(record), "rollout_id": record.rollout_id, "is_job": is_job, "open_change": None}
        repository.add(unit.session, values)

    def get(self, rollout_id: str) -> StoredRollout:
        """Return a rollout with its windows (measurements).

        Raises:
            RolloutNotFoundError: no rollout has this id.
        """
        with self._database.read() as session:
            row = repository.get(session, rollout_id)
            if row is None:
                raise RolloutNotFoundError(rollout_id)
            return _stored(row, repository.windows(session, rollout_id))

    def list_records(self, *, before: str | None, limit: int) -> list[RolloutRecord]:
        """Return at most `limit` records of rollouts, without their windows (measurements), newest first.

        Only rollouts with an id below `before` are returned; None: rollouts with any id.
        """
        with self._database.read() as session:
            rows = repository.list_rollouts(session, before=before, limit=limit)
        return [_stored(row, []).record for row in rows]

    def counts(self) -> dict[tuple[str, str | None], int]:
        """Return `{(status, verdict): number of stored rollouts}`; the verdict is None before the judgement."""
        with self._database.read() as session:
            return repository.count_by_verdict(session)

    def list_of_target(self, target: str) -> list[RolloutRecord]:
        """Return the records of all rollouts of a target, without their windows (measurements), newest first."""
        with self._database.read() as session:
            return [_stored(row, []).record for row in repository.list_of_target(session, target)]

    def list_open(self) -> list[StoredRollout]:
        """Return the open rollouts, oldest first and without their windows (measurements).

        A rollout is open if its flags must still be restored, whether it is over or not. A rollout that a `lab` command
        executes is open until it is over, even if its flags are unchanged: no worker continues it after a crash.
        """
        with self._database.read() as session:
            return [_stored(row, []) for row in repository.list_open(session)]

    def request_stop(self, rollout_id: str, request: AuditEntry) -> None:
        """Store a person's request to stop a rollout; do nothing if a request is stored already."""
        values = {"rollout_id": rollout_id, "at": request.at, "actor": request.actor, "note": request.note}
        with self._database.write() as unit:
            repository.put_stop(unit.session, values)

    def stop_request(self, rollout_id: str) -> AuditEntry | None:
        """Return the request to stop a rollout; None if no stop was requested."""
        with self._database.read() as session:
            found = repository.stop_of(session, rollout_id)
        return None if found is None else AuditEntry(at=found.at, actor=found.actor, action="stopped", note=found.note)

    def save(self, record: RolloutRecord, *, closes_change: bool = False, durable: bool = True) -> None:
        """Store a record without its windows (measurements).

        Args:
            record: the new state of a stored rollout.
            closes_change: whether to delete the stored `OpenChange` (how to restore the flags) too, because the flags
                need no restoration any more.
            durable: whether the record must be on the disk when this method returns.
        """
        closing = {"open_change": None} if closes_change else {}
        with self._database.write(durable=durable) as unit:
            repository.change(unit.session, record.rollout_id, **_columns(record), **closing)

    def open_change(self, rollout_id: str, change: OpenChange) -> None:
        """Store how to restore the flags of a rollout; the data is on the disk when this method returns."""
        with self._database.write() as unit:
            repository.change(unit.session, rollout_id, open_change=change.model_dump(mode="json"))

    def add_window(self, rollout_id: str, window: ArmWindow) -> None:
        """Store a window (measurement) of a rollout; it replaces a stored window with the same number."""
        with self._database.write(durable=False) as unit:
            repository.put_window(unit.session, rollout_id, window.index, window.model_dump(mode="json"))


class StoredJournal:
    """Stores the state of one rollout in the database while it is executed.

    Args:
        store: the store.
        rollout_id: the id of the rollout.
        lease: the lease of the rollout's target.
    """

    def __init__(self, store: RolloutStore, rollout_id: str, lease: TargetLease) -> None:
        self._store = store
        self._rollout_id = rollout_id
        self._lease = lease

    def open_change(self, change: OpenChange) -> None:
        """Store how to restore the flags, before they are changed."""
        self._store.open_change(self._rollout_id, change.model_copy(update={"owner": self._lease.owner}))

    def owns_change(self) -> bool:
        """Return whether this process must still restore the flags.

        It must while it holds the lease. After it has lost the lease, it must until another process has taken over the
        rollout. If the lease is lost and the database cannot be read, the result is True.
        """
        if self._lease.is_held:
            return True
        try:
            found = self._store.get(self._rollout_id).open_change
        except DatabaseUnavailableError as error:
            _log.warning("rollout_change_unknown", rollout_id=self._rollout_id, error=str(error))
            return True
        return found is not None and found.owner == self._lease.owner

    def add_window(self, window: ArmWindow) -> None:
        """Store one window: one measurement of one arm (set of flags)."""
        self._store.add_window(self._rollout_id, window)

    def save(self, record: RolloutRecord, *, closes_change: bool = False) -> None:
        """Store the current record, of an interrupted rollout with the request of the person who stopped it.

        If `closes_change` is true, also delete the stored `OpenChange` (how to restore the flags), because the flags
        need no restoration any more.
        """
        # In one write: a client that reads the end reads the reason too, and a kill cannot part them.
        is_interrupted = record.status is RolloutStatus.INTERRUPTED
        request = self._store.stop_request(self._rollout_id) if is_interrupted else None
        self._store.save(record.stopped_by(request), closes_change=closes_change)

    def begin_phase(self, record: RolloutRecord) -> None:
        """Store the record when the phase `execute`, `judge` or `apply` begins, so that clients can read the phase.

        Do nothing for any other phase, for a dry run, or after the lease is lost. If the database is unavailable, only
        log a warning.
        """
        if record.is_dry_run or record.phase not in _STORED_PHASES or not self._lease.is_held:
            return
        try:
            self._store.save(record, durable=False)
        except DatabaseUnavailableError as error:
            _log.warning("rollout_phase_not_stored", rollout_id=self._rollout_id, error=str(error))

    def still_leased(self) -> bool:
        """Return whether this rollout holds the lease of its target: the lease has not expired or been taken over."""
        return self._lease.is_held


def _columns(record: RolloutRecord) -> dict[str, Any]:
    return {
        "target": record.target,
        "status": record.status.value,
        "verdict": None if record.judgement is None else record.judgement.verdict.value,
        "created_at": record.created_at,
        "document": record.model_dump(mode="json", exclude={"windows"}),
    }


def _stored(row: Any, windows: list[dict[str, Any]]) -> StoredRollout:
    record = RolloutRecord.model_validate({**row.document, "windows": windows}, context=STORED)
    change = None if row.open_change is None else OpenChange.model_validate(row.open_change, context=STORED)
    return StoredRollout(record, change, row.is_job)

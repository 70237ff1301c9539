"""Stop a rollout at the request of a person, whether a process executes it or not."""

from __future__ import annotations

from relab.core.clock import Clock
from relab.rollouts.errors import RolloutStateError, TargetBusyError
from relab.rollouts.leases import TargetLeases
from relab.rollouts.record import AuditEntry, RolloutRecord, RolloutStatus
from relab.rollouts.recovery import FlagRecovery
from relab.rollouts.running import RolloutRunner
from relab.rollouts.store import RolloutStore


class RolloutStops:
    """Stores requests to stop rollouts, and ends the stopped rollouts that no process executes."""

    def __init__(
        self, store: RolloutStore, leases: TargetLeases, recovery: FlagRecovery, runner: RolloutRunner, clock: Clock
    ) -> None:
        self._store = store
        self._leases = leases
        self._recovery = recovery
        self._runner = runner
        self._clock = clock

    def request(self, rollout_id: str, *, by: str, note: str = "") -> RolloutRecord:
        """Request the stop of a running rollout, and return its record.

        If a process executes this rollout, that process restores the flags and ends the rollout within seconds, with
        the status `interrupted`; the returned record may still be that of a running rollout. If no process executes a
        rollout of this target, this call restores the flags and ends this rollout. If a process executes another
        rollout of this target, the next attempt to execute this rollout ends it.

        `by` is the person, and `note` is the reason for the audit.

        Raises:
            RolloutNotFoundError: no rollout has this id.
            RolloutStateError: the rollout is over.
            RelabError: no process executes the rollout, and its flags cannot be restored now.
        """
        found = self._store.get(rollout_id)
        if found.record.status.is_over:
            raise RolloutStateError(f"The rollout {rollout_id} is over; its status is {found.record.status.value}.")
        request = AuditEntry(at=self._clock.now_us(), actor=by, action="stopped", note=note)
        self._store.request_stop(rollout_id, request)
        try:
            with self._leases.hold(found.record.target, rollout_id):
                self._recovery.settle(found.record.target)
                record = self._store.get(rollout_id).record
                return record if record.status.is_over else self.end(record, request)
        except TargetBusyError:
            # A process executes this rollout and reads the request; or it executes another rollout of the target, and
            # the next attempt to execute this rollout reads the request.
            return self._store.get(rollout_id).record

    def end(self, record: RolloutRecord, request: AuditEntry) -> RolloutRecord:
        """Mark a rollout as interrupted by a person's `request`, store and publish its end, and return its new record.

        The caller must have restored the flags.
        """
        values = {"status": RolloutStatus.INTERRUPTED, "finished_at": self._clock.now_us()}
        ended = record.model_copy(update=values).stopped_by(request)
        self._runner.store_end(ended)
        self._runner.publish_end(ended)
        return ended

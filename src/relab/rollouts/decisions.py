"""Apply or roll back a change of flags after its rollout, by the decision of a person."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from relab.core.clock import Clock
from relab.core.errors import RelabError
from relab.rollouts.agent_run import send_to_telemetry
from relab.rollouts.errors import (
    FlagsChangedError,
    FlagsNotAppliedError,
    FlagsNotRestoredError,
    RolloutStateError,
    TargetUnhealthyError,
)
from relab.rollouts.execution.restoring import RestoredFlags, audit_after, restore_flags
from relab.rollouts.leases import TargetLeases
from relab.rollouts.models import Arm
from relab.rollouts.record import Application, AuditEntry, OpenChange, RolloutRecord
from relab.rollouts.recovery import FlagRecovery
from relab.rollouts.store import RolloutStore
from relab.rollouts.targets.protocol import FlagState, change_flags
from relab.stats.verdicts import Verdict
from relab.telemetry.service import TelemetryService

if TYPE_CHECKING:
    from relab.rollouts.targets.opening import RolloutTarget, TargetOpener


class PersonalDecisions:
    """Applies and rolls back changes of flags by the decision of a person, and records each decision in the audit."""

    def __init__(
        self,
        store: RolloutStore,
        leases: TargetLeases,
        opener: TargetOpener,
        recovery: FlagRecovery,
        telemetry: TelemetryService,
        clock: Clock,
    ) -> None:
        self._store = store
        self._leases = leases
        self._opener = opener
        self._recovery = recovery
        self._telemetry = telemetry
        self._clock = clock

    def apply(self, rollout_id: str, *, by: str, note: str = "") -> RolloutRecord:
        """Apply the new flags of an ended rollout, and return its updated record.

        The verdict must be PASS, or EDGE (neither a clear PASS nor a FAIL). `by` is the person; `note` is the
        reason, which is stored in the audit. After an error, the flags are restored if possible.

        Raises:
            RolloutNotFoundError: no rollout has this id.
            RolloutStateError: the rollout is not over, its verdict is neither EDGE nor PASS, it ended before it read
                the flags, or the new flags are in force already.
            FlagsChangedError: the current flags differ from those before the rollout.
            TargetBusyError: another rollout uses the target.
            TargetUnhealthyError: the target is unhealthy.
            TargetUnavailableError: the target does not answer.
            FlagsRejectedError: the target rejects the change.
            FlagsNotAppliedError: the target did not keep the change.
            FlagsNotRestoredError: the change failed, and the flags could not be restored.
        """
        with self._held(rollout_id) as (record, target):
            verdict = None if record.judgement is None else record.judgement.verdict
            if verdict not in {Verdict.EDGE, Verdict.PASS}:
                named = "without a verdict" if verdict is None else f"with the verdict {verdict.value}"
                raise RolloutStateError(f"A rollout {named} cannot be applied; only EDGE and PASS can.")
            if Arm.B not in record.changes:
                raise RolloutStateError(
                    f"The rollout {rollout_id} ended before it read the flags, so it has no change to apply.",
                    remedy="Run the rollout again.",
                )
            wanted = record.changes[Arm.B]
            inverse = _inverse(record, target)
            state = target.flags.read()
            if target.flags.holds(state, wanted):
                raise RolloutStateError("The flags of this rollout are in force already.")
            if not target.flags.holds(state, inverse):
                raise FlagsChangedError(
                    "The flags are not those from before the rollout.", remedy="Start a new rollout from these flags."
                )
            health = target.health.check()
            if not health.ok:
                raise TargetUnhealthyError(health.reason)
            change = OpenChange(inverse=inverse, values=[wanted])
            self._change(record, target, change, wanted, state)
            applied = Application(applied=True, message=f"Applied by {by}; read back.", at=self._clock.now_us(), by=by)
            entry = self._entry(by, "applied", note)
            return self._audited(record.model_copy(update={"application": applied}), entry)

    def roll_back(self, rollout_id: str, *, by: str, note: str = "") -> RolloutRecord:
        """Undo the change of an ended rollout: restore the flags from before it, and return the updated record.

        `by` is the person; `note` is the reason, which is stored in the audit.

        Raises:
            RolloutNotFoundError: no rollout has this id.
            RolloutStateError: the rollout is not over, has no change, or the flags from before it are in force already.
            FlagsChangedError: another client has changed the flags since the rollout.
            TargetBusyError, TargetUnavailableError, FlagsRejectedError, FlagsNotAppliedError, FlagsNotRestoredError:
                the flags were not restored.
        """
        with self._held(rollout_id) as (record, target):
            if Arm.B not in record.changes:
                raise RolloutStateError("This rollout has not changed any flags.")
            inverse = _inverse(record, target)
            state = target.flags.read()
            if target.flags.holds(state, inverse):
                raise RolloutStateError("The flags from before the rollout are in force already.")
            if not target.flags.holds(state, record.changes[Arm.B]):
                raise FlagsChangedError(
                    "The flags were changed since the rollout.",
                    remedy="To restore the earlier values even so, run the printed rollback command.",
                )
            # Stored with the change: the decision must be known even if this process dies before the end.
            entry = self._entry(by, "rolled_back", note)
            change = OpenChange(inverse=inverse, values=[record.changes[Arm.B]], rollback=entry)
            self._change(record, target, change, inverse, state)
            message = f"Rolled back by {by}; read back."
            undone = Application(applied=False, message=message, at=self._clock.now_us(), by=by)
            restored = record.model_copy(update={"application": undone, "flags_restored": True})
            return self._audited(restored, entry)

    @contextmanager
    def _held(self, rollout_id: str) -> Iterator[tuple[RolloutRecord, RolloutTarget]]:
        """Return a context manager that holds the lease of an ended rollout's target, and yields (record, target).

        If a process died during a rollout of this target and left the flags changed, they are restored first.

        Raises:
            RolloutNotFoundError: no rollout has this id.
            TargetBusyError: another rollout holds the lease of the target.
            RelabError: the flags that the dead process left cannot be restored.
            RolloutStateError: the rollout is not over.
        """
        record = self._store.get(rollout_id).record
        target = self._opener.open(record.plan)
        with self._leases.hold(record.target, rollout_id):
            self._recovery.settle(record.target)
            record = self._store.get(rollout_id).record
            if not record.status.is_over:
                raise RolloutStateError(f"The rollout {rollout_id} is not over; its status is {record.status.value}.")
            yield record, target

    def _change(
        self, record: RolloutRecord, target: RolloutTarget, change: OpenChange, wanted: Any, state: FlagState
    ) -> None:
        """Change the flags of a target as a person decided; after an error, restore the flags and raise the error.

        Args:
            record: the record of the rollout.
            target: the target.
            change: how to restore the flags. It is stored before the flags are changed, so that it survives a crash.
            wanted: the flags to set.
            state: the current flags; they are changed only if their version is still the one in `state`.

        Raises:
            FlagsNotRestoredError: the change failed, and restoring the flags failed, too.
        """
        self._store.open_change(record.rollout_id, change)
        try:
            change_flags(target.flags, wanted, expected=state.version, within_s=record.plan.timeout)
        except RelabError as error:
            if isinstance(error, FlagsNotAppliedError):
                change = change.model_copy(update={"values": [*change.values, *error.values]})
            try:
                result = restore_flags(target.flags, change, within_s=record.plan.timeout)
            except RelabError as failure:
                message = f"{error.message} Restoring the flags failed, too: {failure.message}"
                # The change stays stored, so the next command tries again to restore the flags.
                self._note_failure(record, change, RestoredFlags(False, message), closes_change=False)
                raise FlagsNotRestoredError(
                    message,
                    remedy="The next `lab rollout` command tries again; or run the rollback command of the rollout's summary.",
                ) from failure
            message = f"{error.message} {result.message}"
            self._note_failure(record, change, RestoredFlags(result.restored, message), closes_change=True)
            raise

    def _note_failure(
        self, record: RolloutRecord, change: OpenChange, result: RestoredFlags, *, closes_change: bool
    ) -> None:
        """Store that a change of flags by a person failed.

        Args:
            record: the record of the rollout.
            change: the change.
            result: whether the flags have their earlier values, and a message about both errors.
            closes_change: whether the flags need no further restoration.
        """
        undone = Application(applied=False, message=result.message, at=self._clock.now_us(), by="rollout")
        values = {
            "application": undone,
            "flags_restored": result.restored,
            "audit": audit_after(record, change, result),
        }
        ended = record.model_copy(update=values)
        self._store.save(ended, closes_change=closes_change)
        send_to_telemetry(self._telemetry, ended)

    def _entry(self, by: str, action: str, note: str) -> AuditEntry:
        return AuditEntry(at=self._clock.now_us(), actor=by, action=action, note=note)

    def _audited(self, record: RolloutRecord, entry: AuditEntry) -> RolloutRecord:
        changed = record.model_copy(update={"audit": (*record.audit, entry)})
        self._store.save(changed, closes_change=True)
        send_to_telemetry(self._telemetry, changed)
        return changed


def _inverse(record: RolloutRecord, target: RolloutTarget) -> Any:
    return target.flags.inverse(record.changes[Arm.B], FlagState(record.before))

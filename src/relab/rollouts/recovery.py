"""Restore the flags of rollouts whose process has died."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from relab.core.clock import Clock
from relab.core.errors import RelabError
from relab.core.logging import get_logger
from relab.rollouts.agent_run import send_to_telemetry
from relab.rollouts.errors import TargetBusyError
from relab.rollouts.execution.restoring import RestoredFlags, audit_after, restore_flags
from relab.rollouts.leases import TargetLeases
from relab.rollouts.record import Application, OpenChange, RolloutRecord, RolloutStatus
from relab.rollouts.store import RolloutStore, StoredRollout
from relab.telemetry.service import TelemetryService

if TYPE_CHECKING:
    from relab.rollouts.targets.opening import TargetOpener

RECOVERY_S: Final = 5.0
"""How long a restoration may take at the start of a command, in seconds."""

_log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class FlagRestoration:
    """The result of restoring the flags of a rollout after the death of its process.

    Attributes:
        rollout_id: the id of the rollout.
        restored: whether the flags have their earlier values.
        message: what happened, in one sentence.
    """

    rollout_id: str
    restored: bool
    message: str


class FlagRecovery:
    """Restores the flags of rollouts whose process has died.

    A rollout of a `lab` command is then marked as interrupted. A rollout that is a job is continued by a worker.
    """

    def __init__(
        self,
        store: RolloutStore,
        leases: TargetLeases,
        opener: TargetOpener,
        telemetry: TelemetryService,
        clock: Clock,
    ) -> None:
        self._store = store
        self._leases = leases
        self._opener = opener
        self._telemetry = telemetry
        self._clock = clock

    def recover(self) -> list[FlagRestoration]:
        """Restore the flags that rollouts of dead processes have changed; return one result for each of these rollouts.

        If the flags of a rollout cannot be restored, no error is raised; `restored` of its result is False. A rollout
        is left out if its target is in use.
        """
        return [recovery for found in self._store.list_open() if (recovery := self._recover_one(found)) is not None]

    def settle(self, target: str) -> None:
        """Restore the flags of one target, if rollouts of dead processes left these flags changed.

        The caller must hold the lease of the target.

        Raises:
            RelabError: the flags cannot be restored, so a new rollout must not begin.
        """
        for found in self._store.list_open():
            if found.record.target == target:
                self._settle_one(found)

    def _recover_one(self, found: StoredRollout) -> FlagRestoration | None:
        record = found.record
        try:
            with self._leases.hold(record.target, record.rollout_id):
                return self._settle_one(self._store.get(record.rollout_id))
        except TargetBusyError:
            return None
        except RelabError as error:
            return FlagRestoration(record.rollout_id, False, error.message)

    def _settle_one(self, found: StoredRollout) -> FlagRestoration | None:
        """Restore the flags of a rollout whose process has died, and end the rollout if it is not a job of a worker.

        Return the result of the restoration; None if no flags had to be restored.
        """
        record = self._store.get(found.record.rollout_id).record
        result = None if found.open_change is None else self._restore(record, found.open_change)
        values: dict[str, Any] = {}
        if result is not None and found.open_change is not None:
            values["flags_restored"] = result.restored
            values["audit"] = audit_after(record, found.open_change, result)
            if record.application is not None and record.application.applied:
                values["application"] = Application(
                    applied=False, message=result.message, at=self._clock.now_us(), by="recovery"
                )
        # A worker continues a rollout that is its job; any other one is over.
        if not found.is_job and not record.status.is_over:
            values |= {
                "status": RolloutStatus.INTERRUPTED,
                "error": "The process ended before the rollout did.",
                "finished_at": self._clock.now_us(),
            }
        if not values:
            return None
        settled = record.model_copy(update=values)
        self._store.save(settled, closes_change=True)
        if settled.status.is_over:
            send_to_telemetry(self._telemetry, settled)
        if result is None:
            return None
        _log.info("rollout_restored", rollout_id=record.rollout_id, restored=result.restored)
        return FlagRestoration(record.rollout_id, result.restored, result.message)

    def _restore(self, record: RolloutRecord, change: OpenChange) -> RestoredFlags:
        # The limit holds for each request as well, so that a target that is down does not delay every command.
        within_s = min(record.plan.timeout, RECOVERY_S)
        target = self._opener.open(record.plan.model_copy(update={"timeout": within_s}))
        return restore_flags(target.flags, change, within_s=within_s)

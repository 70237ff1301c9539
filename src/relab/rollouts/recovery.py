"""Restore the flags of rollouts whose process has died."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from relab.core.clock import Clock
from relab.core.errors import RelabError
from relab.core.logging import get_logger
from relab.rollouts.agent_run import send_to_telemetry
from relab.rollouts.errors import TargetBusyError
from relab.rollouts.execution.restoring import restore_flags
from relab.rollouts.leases import TargetLeases
from relab.rollouts.record import RolloutStatus
from relab.rollouts.store import RolloutStore, StoredRollout
from relab.rollouts.targets.opening import TargetOpener
from relab.telemetry.service import TelemetryService

RECOVERY_S: Final = 5.0
"""How long a restoration may take at the start of a command, in seconds."""

_log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class FlagRestoration:
    """The restoration of the flags of a rollout that ended without one.

    Attributes:
        rollout_id, target: the rollout and its target.
        restored: whether the flags have their earlier values.
        message: what happened, in one sentence.
    """

    rollout_id: str
    target: str
    restored: bool
    message: str


class FlagRecovery:
    """Finds rollouts with an open change that no process executes any more, and restores their flags."""

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
        """Restore the flags of all rollouts whose process has died; rollouts that are running are left alone.

        A target that does not answer stays to be restored later; that is reported, not raised.
        """
        return [recovery for found in self._store.list_open() if (recovery := self._recover_one(found)) is not None]

    def settle(self, target: str) -> None:
        """Restore the flags of a target, whose lease is held, if an earlier rollout has left them changed.

        Raises:
            RelabError: they cannot be restored, so that a new rollout cannot begin.
        """
        for found in self._store.list_open():
            if found.record.target == target:
                self._restore_stored(found)

    def _recover_one(self, found: StoredRollout) -> FlagRestoration | None:
        record = found.record
        try:
            with self._leases.hold(record.target, record.rollout_id):
                again = self._store.get(record.rollout_id)
                if again.open_change is None:
                    return None
                return self._restore_stored(again)
        except TargetBusyError:
            return None
        except RelabError as error:
            return FlagRestoration(record.rollout_id, record.target, False, error.message)

    def _restore_stored(self, found: StoredRollout) -> FlagRestoration:
        assert found.open_change is not None
        record = self._store.get(found.record.rollout_id).record
        target = self._opener.open(record.plan)
        result = restore_flags(target.flags, found.open_change, within_s=min(record.plan.timeout, RECOVERY_S))
        values: dict[str, Any] = {"flags_restored": result.restored}
        # A worker continues a rollout that is its job; any other one is over.
        if not found.is_job and not record.status.is_over:
            values |= {
                "status": RolloutStatus.INTERRUPTED,
                "error": "The process ended before the rollout did.",
                "finished_at": self._clock.now_us(),
            }
        restored = record.model_copy(update=values)
        self._store.save(restored, closes_change=True)
        if restored.status.is_over:
            send_to_telemetry(self._telemetry, restored)
        _log.info("rollout_restored", rollout_id=record.rollout_id, restored=result.restored)
        return FlagRestoration(record.rollout_id, record.target, result.restored, result.message)

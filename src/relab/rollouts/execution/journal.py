"""Store the state of a rollout while a process executes it.

If the process dies, another process can restore the flags or continue the rollout. It does not repeat stored windows
(measurements).
"""

from __future__ import annotations

from typing import Protocol

from relab.rollouts.errors import TargetLeaseLostError
from relab.rollouts.models import ArmWindow
from relab.rollouts.record import OpenChange, RolloutRecord


class RolloutJournal(Protocol):
    """Stores the state of one rollout durably while it is executed; `StoredJournal` uses the database."""

    def open_change(self, change: OpenChange) -> None:
        """Store how to restore the flags, before they are changed; the data is on the disk when this method returns."""
        ...

    def add_window(self, window: ArmWindow) -> None:
        """Store one window: one measurement of one arm (set of flags)."""
        ...

    def save(self, record: RolloutRecord, *, closes_change: bool = False) -> None:
        """Store the current record.

        If `closes_change` is true, also delete the stored `OpenChange` (how to restore the flags), because the flags
        need no restoration any more.
        """
        ...

    def begin_phase(self, record: RolloutRecord) -> None:
        """Store the record at the beginning of a phase, so that clients can read the phase. Errors are not raised."""
        ...

    def owns_change(self) -> bool:
        """Return whether this process still has the duty to restore the flags.

        A process that loses the lease keeps this duty until another process takes over the target.
        """
        ...

    def still_leased(self) -> bool:
        """Return whether this process still holds the lease of the target."""
        ...


def require_own_change(journal: RolloutJournal, target: str) -> None:
    """Check that this process may still restore the flags, because no other process has taken over the rollout.

    `target` is the name of the flags, for the error.

    Raises:
        TargetLeaseLostError: another process has taken over the target.
    """
    if not journal.owns_change():
        raise TargetLeaseLostError(f"The rollout lost the lease of {target}; another process has restored its flags.")

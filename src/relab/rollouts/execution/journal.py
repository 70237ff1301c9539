"""What an execution stores while it runs, so that a killed process neither leaves flags changed nor loses windows."""

from __future__ import annotations

from typing import Protocol

from relab.rollouts.models import ArmWindow
from relab.rollouts.record import OpenChange, RolloutRecord


class RolloutJournal(Protocol):
    """Stores the state of one rollout durably while it is executed; `StoredJournal` does so in the database."""

    def open_change(self, change: OpenChange) -> None:
        """Store how the flags are restored, before they are changed; it is on the disk when this returns."""
        ...

    def add_window(self, window: ArmWindow) -> None:
        """Store a measured window."""
        ...

    def save(self, record: RolloutRecord, *, closes_change: bool = False) -> None:
        """Store the current record; with `closes_change`, the flags need no restoration from now on."""
        ...

    def begin_phase(self, record: RolloutRecord) -> None:
        """Store the current record for its readers when a phase begins; if that is impossible now, the rollout goes on."""
        ...

    def owns_change(self) -> bool:
        """Return whether the flags are this process's to restore: it holds the lease, or no process has taken over since."""
        ...

    def still_leased(self) -> bool:
        """Return whether this process still holds the lease of the target."""
        ...

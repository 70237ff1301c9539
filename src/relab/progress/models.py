"""Schemas of progress events."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

from relab.core.clock import Timestamp

TERMINAL_STATUSES = frozenset({"done", "failed"})


class ProgressEvent(BaseModel):
    """One event of one topic; `seq` counts up from 1 within the topic."""

    model_config = ConfigDict(frozen=True)

    seq: int
    status: str
    step: str
    pct: int
    message: str
    updated_at: Timestamp

    @property
    def is_terminal(self) -> bool:
        """Whether this event ends the work."""
        return self.status in TERMINAL_STATUSES

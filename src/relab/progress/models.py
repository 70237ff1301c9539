"""The schema of a progress event of a long task."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

from relab.core.clock import Timestamp

TERMINAL_STATUSES = frozenset({"done", "failed"})


class ProgressEvent(BaseModel):
    """One event about the progress of a piece of work, such as an analysis. The work's id is the topic of its events.

    Attributes:
        seq: the number of the event; the events of a topic are numbered from 1.
        status: the status of the work; `done` and `failed` end it.
        step: the name of the current step of the work.
        pct: the completed part of the work, in percent.
        message: a sentence for people.
        updated_at: the time of the event, in microseconds since 1970.
    """

    model_config = ConfigDict(frozen=True)

    seq: int
    status: str
    step: str
    pct: int
    message: str
    updated_at: Timestamp

    @property
    def is_terminal(self) -> bool:
        """Whether this is the last event of its topic: the work is done or has failed."""
        return self.status in TERMINAL_STATUSES

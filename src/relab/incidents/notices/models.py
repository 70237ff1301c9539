"""What people are told of an incident, as values."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from pydantic import BaseModel, ConfigDict

from relab.core.clock import Timestamp
from relab.incidents.models import Severity


class NoticeKind(StrEnum):
    """What a notice is about."""

    OPENED = "opened"
    DIAGNOSED = "diagnosed"
    APPROVAL_WANTED = "approval_wanted"
    DECIDED = "decided"
    ACTED = "acted"
    FAILED = "failed"
    """The responder itself has failed."""
    OUTAGE = "outage"
    """Something else goes wrong while the responder is at work on the incident."""
    ESCALATED = "escalated"
    CLOSED = "closed"


@dataclass(frozen=True, slots=True)
class Notice:
    """Something that people should know, in words from outside: whoever sends it on escapes and cuts them.

    Attributes:
        seq: of the event of the timeline that it tells of; with the incident's id it names the notice.
        title: a few words of our own.
        headline: one sentence.
        details: further ones, by what they are about.
        commands: how to answer, to be typed as they stand.
        wants_person: somebody has to do something.
        is_taken: a person has taken it on.
        is_over: the incident ends with it.
        is_stale: the incident was over before it could be told.
        url: of the incident, where relab has an address that people can reach.
    """

    incident_id: str
    seq: int
    kind: NoticeKind
    at_us: int
    target: str
    severity: Severity
    title: str
    headline: str
    details: tuple[tuple[str, str], ...] = ()
    commands: tuple[str, ...] = ()
    wants_person: bool = False
    is_taken: bool = False
    is_over: bool = False
    is_stale: bool = False
    url: str | None = None

    @property
    def key(self) -> str:
        """What is the same if the notice is sent again."""
        return f"{self.incident_id}:{self.seq}"


class ReceiverState(BaseModel):
    """How it stands with a receiver of notices.

    Attributes:
        since: when it was set up; of what was over by then it is not told.
        sent, given_up: how many notices it has taken, and how many it was not told in the end.
        attempts: how often the next notice was tried since the last one that was taken.
        retry_at: when it is tried again.
        error: why the last one was not taken; no secrets.
    """

    model_config = ConfigDict(frozen=True)

    receiver: str
    since: Timestamp
    sent: int
    given_up: int
    last_sent_at: Timestamp | None
    attempts: int
    retry_at: Timestamp | None
    error: str | None

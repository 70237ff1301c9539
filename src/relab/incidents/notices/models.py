"""Value types of notices: messages to people about incidents, and about behaviours of runs."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

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
    """The responder itself failed."""
    OUTAGE = "outage"
    """The target became worse, or broke again, while the responder works on the incident."""
    ESCALATED = "escalated"
    CLOSED = "closed"
    POSTED = "posted"
    """A message of another part of relab, such as a behaviour that a run shows; it belongs to no incident."""


@dataclass(frozen=True, slots=True)
class Notice:
    """A message to people about an event of an incident, or one that another part of relab posted.

    It may contain untrusted text, which each receiver's adapter escapes.

    Attributes:
        incident_id: the incident; of a posted notice its topic.
        seq: the number of the event in the incident's timeline, or of the message within its topic; together with the
            incident's id it identifies the notice.
        target: the service that the incident is about.
        at_us: the time of the event, in microseconds since 1970.
        title: a few words, written by relab.
        headline: one sentence.
        details: pairs of a label and a text.
        commands: commands with which people can answer, to be typed unchanged.
        wants_person: whether a person has to act.
        is_taken: whether a person has taken over the incident.
        is_over: whether the incident ended with this event.
        is_stale: whether the incident was over before the notice was sent.
        url: the page of the incident; None if the public address of relab is unknown.
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
        """The idempotency key of the notice: the same for every retry."""
        return f"{self.incident_id}:{self.seq}"


class NewNotice(BaseModel):
    """A message that another part of relab posts; texts may be untrusted.

    Attributes:
        topic, seq: identify it; a second message with both is ignored.
        at_us: its time, in microseconds since 1970.
        target: what it is about, such as the name of an agent.
        title: a few words, written by relab.
        headline: one sentence.
        details: pairs of a label and a text.
        pages: whether PagerDuty gets it too.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    topic: Annotated[str, Field(min_length=1, max_length=150)]
    seq: int
    at_us: int
    target: str
    severity: Severity = Severity.WARNING
    title: str
    headline: str
    details: tuple[tuple[str, str], ...] = ()
    pages: bool = False

    def notice(self) -> Notice:
        """Return the message as a notice."""
        return Notice(
            incident_id=self.topic,
            seq=self.seq,
            kind=NoticeKind.POSTED,
            at_us=self.at_us,
            target=self.target,
            severity=self.severity,
            title=self.title,
            headline=self.headline,
            details=self.details,
            wants_person=self.pages,
        )


class ReceiverState(BaseModel):
    """The delivery state of a receiver of notices.

    Attributes:
        receiver: its name.
        since: when it was set up; no notices are sent of incidents that were over by then.
        sent, given_up: how many notices it accepted, and how many could not be sent to it.
        last_sent_at: when it last accepted a notice; None if it never did.
        attempts: how often sending the next notice was tried since the last success or giving up.
        retry_at: when the next retry is due; None if no retry is pending.
        error: why the last notice was not accepted; without secrets. None if it was.
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

"""Value types of notices: messages to people about incidents, and about behaviours of runs."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from relab.core.clock import Timestamp
from relab.incidents.models import Severity


class NoticeKind(StrEnum):
    """What a notice is about, such as an opened incident, a diagnosis, an action or an approval that is needed."""

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
    """A message to people: about an event of an incident, or from another part of relab (a "posted message").

    The message may contain untrusted text, which each receiver's adapter escapes.

    Attributes:
        incident_id: the id of the incident; for a posted message, its topic.
        seq: the number of the event in the incident's timeline, or of the posted message in its topic.
        target: the service that the incident is about; for a posted message, its subject, such as an agent.
        at_us: the time of the event or of the posted message, in microseconds since 1970.
        title: a few words, written by relab.
        headline: one sentence.
        details: pairs of a label and a text.
        commands: commands with which people can answer, to be typed unchanged.
        wants_person: whether a person has to act.
        is_taken: whether a person has taken over the incident from the responder.
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
    """A message to people that another part of relab posts. Its texts may be untrusted.

    Attributes:
        topic, seq: what the message is about, and its number in this topic. A second message with the same topic and
            number is ignored.
        at_us: the time of the message, in microseconds since 1970.
        target: the name of the subject, such as an agent.
        title: a few words, written by relab.
        headline: one sentence.
        details: pairs of a label and a text.
        pages: whether the message is also sent to PagerDuty.
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
        """Return the message in the form in which it is sent to receivers."""
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
        receiver: the name of the receiver.
        since: when the receiver was set up. Incidents that had ended before this time cause no notices.
        sent, given_up: how many notices the receiver accepted, and how many were skipped after errors.
        last_sent_at: when the receiver last accepted a notice; None if it never did.
        attempts: how often sending the next notice has failed so far.
        retry_at: when the next retry is due; None if no retry is needed.
        error: why the last notice was not accepted, without secrets; None if it was accepted.
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

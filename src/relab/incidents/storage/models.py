"""What is remembered of incidents, as values. They go to JSON and back unchanged."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final, TypedDict

from pydantic import BaseModel, ConfigDict

from relab.core.clock import Timestamp, format_time
from relab.incidents.models import Anomaly, Severity
from relab.incidents.storage.texts import cut

EVENT_SOURCE: Final = "/agent/incidents"
_EVENT_KIND: Final = re.compile(r"[a-z][a-z0-9_]{0,59}")


class IncidentStatus(StrEnum):
    """Where an incident stands. Until it is resolved or closed, no other is opened for its target."""

    OPEN = "open"
    WAITING_APPROVAL = "waiting_approval"
    ESCALATED = "escalated"
    """A person has it."""
    RESOLVED = "resolved"
    CLOSED = "closed"

    @property
    def is_over(self) -> bool:
        """Whether nothing is done for it any more."""
        return self in {IncidentStatus.RESOLVED, IncidentStatus.CLOSED}


class Phase(StrEnum):
    """What the responder does for an incident: the nodes of its graph."""

    MONITOR = "monitor"
    DETECT = "detect"
    GATHER = "gather"
    DIAGNOSE = "diagnose"
    INVESTIGATE = "investigate"
    PLAN = "plan"
    APPROVE = "approve"
    EXECUTE = "execute"
    VERIFY = "verify"
    LEARN = "learn"
    ESCALATE = "escalate"


class Outcome(StrEnum):
    """How an incident ended."""

    RESOLVED = "resolved"
    """The responder mended it, and has verified that."""
    ESCALATED = "escalated"
    """It was given to a person, who has ended it."""
    PASSED = "passed"
    """It is well again, and nothing that the responder did was the reason."""
    DISMISSED = "dismissed"
    """A person says that it was none."""

    @property
    def status(self) -> IncidentStatus:
        """What an incident of this end is from then on."""
        return IncidentStatus.RESOLVED if self is Outcome.RESOLVED else IncidentStatus.CLOSED


class EventKind(StrEnum):
    """What the storage itself tells in a timeline; the nodes of the graph have kinds of their own beside these."""

    OPENED = "opened"
    FINDING = "finding"
    PHASE = "phase"
    STATUS = "status"
    ACT_ASKED = "act_asked"
    ACT_FINISHED = "act_finished"
    ACT_EFFECT = "act_effect"
    APPROVAL_ASKED = "approval_asked"
    APPROVAL_DECIDED = "approval_decided"
    APPROVAL_WITHDRAWN = "approval_withdrawn"
    ALERT = "alert"
    PAUSED = "paused"
    RESUMED = "resumed"
    CLOSED = "closed"
    """The last one of a timeline that is followed."""


class _Remembered(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Finding(_Remembered):
    """An anomaly of an incident, as it was found first and as it was last.

    Attributes:
        count: how often it was told.
    """

    detector: str
    signal: str
    severity: Severity
    value: float | None
    expected: float | None
    detail: str
    opens: bool
    first_at: Timestamp
    last_at: Timestamp
    count: int = 1

    @property
    def anomaly(self) -> Anomaly:
        """The anomaly as it was last."""
        return Anomaly(
            self.detector, self.signal, self.severity, self.value, self.expected, self.detail, opens=self.opens
        )


def finding_of(anomaly: Anomaly, at_us: int) -> Finding:
    """Return an anomaly as it is remembered: of bounded size, and with numbers that JSON has words for."""
    return Finding(
        detector=cut(anomaly.detector, 100),
        signal=cut(anomaly.signal, 300),
        severity=anomaly.severity,
        value=finite(anomaly.value),
        expected=finite(anomaly.expected),
        detail=cut(anomaly.detail, 500),
        opens=anomaly.opens,
        first_at=at_us,
        last_at=at_us,
    )


class IncidentSummary(_Remembered):
    """An incident as a list shows it.

    Attributes:
        diagnosis: the cause that is thought of most; None while there is none.
        probability: of that cause.
        last_seq: the number of the last event of its timeline.
    """

    incident_id: str
    target: str
    title: str
    severity: Severity
    status: IncidentStatus
    phase: Phase
    outcome: Outcome | None
    diagnosis: str | None
    probability: float | None
    recommendation: str
    opened_at: Timestamp
    updated_at: Timestamp
    closed_at: Timestamp | None
    last_seq: int

    @property
    def is_over(self) -> bool:
        """Whether nothing is done for it any more."""
        return self.status.is_over


class Incident(IncidentSummary):
    """An incident with all that is known of it.

    Attributes:
        findings: what detectors and alerts have told, the first first.
        symptoms: the facts that the diagnosis rests on.
        plan: what is to be done next, or was last.
        content: whatever else the responder keeps with it.
    """

    findings: tuple[Finding, ...]
    symptoms: dict[str, Any]
    plan: dict[str, Any] | None
    content: dict[str, Any]


class IncidentPage(_Remembered):
    """Incidents, the newest first."""

    items: list[IncidentSummary]
    next_cursor: str | None


class IncidentChange(TypedDict, total=False):
    """What can be changed of an incident; what is not given stays as it is."""

    status: IncidentStatus
    phase: Phase
    severity: Severity
    title: str
    diagnosis: str | None
    probability: float | None
    recommendation: str
    symptoms: Mapping[str, Any]
    plan: Mapping[str, Any] | None
    content: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class NewEvent:
    """Something to be told in a timeline.

    Attributes:
        kind: what happened, in one word such as `diagnosed`; `closed` is the storage's own.
        message: one sentence for people.
        content: JSON.
        evidence: ids of what it rests on.
        once: told with the same word again, the event is there already: for nodes that may run twice.
    """

    kind: str
    message: str = ""
    content: Mapping[str, Any] = field(default_factory=dict)
    evidence: Sequence[str] = ()
    once: str | None = None

    def __post_init__(self) -> None:
        if not _EVENT_KIND.fullmatch(self.kind):
            raise ValueError(f"{self.kind!r} is no kind of event: lower-case letters, digits and underscores")


class TimelineEvent(_Remembered):
    """An event of the timeline of an incident; `seq` counts up from 1 without a gap."""

    incident_id: str
    seq: int
    kind: str
    at: Timestamp
    message: str
    content: dict[str, Any]
    evidence: tuple[str, ...]

    @property
    def is_terminal(self) -> bool:
        """Whether the incident has ended with this event."""
        return self.kind == EventKind.CLOSED

    def to_cloudevent(self, source: str = EVENT_SOURCE) -> dict[str, Any]:
        """Return the event as CloudEvents 1.0 has it; source and id together are unique.

        Args:
            source: of all events of this responder, a URI reference.
        """
        return {
            "specversion": "1.0",
            "id": f"{self.incident_id}:{self.seq}",
            "source": source,
            "type": f"relab.incident.{self.kind}",
            "time": format_time(self.at),
            "subject": self.incident_id,
            "datacontenttype": "application/json",
            "data": {
                "incident_id": self.incident_id,
                "seq": self.seq,
                "message": self.message,
                "content": self.content,
                "evidence": list(self.evidence),
            },
        }


@dataclass(frozen=True, slots=True)
class Opened:
    """What came of opening an incident.

    Attributes:
        created: whether it is a new one; otherwise one was open for the target, and the anomalies have joined it.
    """

    incident: Incident
    created: bool


class SwitchState(_Remembered):
    """Whether a responder is paused, and by whom.

    Attributes:
        target: that the switch is of; `*` is the switch of all.
        by, at, why: of the last turn of that switch; None where it was never turned.
    """

    target: str
    is_paused: bool
    by: str | None = None
    at: Timestamp | None = None
    why: str = ""


class Lease(_Remembered):
    """The right to run the loop of a target for some time.

    Attributes:
        term: counts up whenever the owner is another one.
    """

    target: str
    owner: str
    term: int
    until: Timestamp


@dataclass(frozen=True, slots=True)
class ReceivedAlert:
    """An alert of a notification.

    Attributes:
        fingerprint: of its labels.
        anomaly: what it tells.
        content: its labels and annotations, as they came.
    """

    fingerprint: str
    starts_at_us: int
    is_firing: bool
    anomaly: Anomaly
    content: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class AlertIntake:
    """What came of a notification.

    Attributes:
        fresh: alerts that say something that was not known; of the others nothing came.
        opened: the incident that they opened or joined; None if none of them is a firing one.
    """

    fresh: tuple[ReceivedAlert, ...]
    opened: Opened | None


def finite(value: float | None) -> float | None:
    """Return a number that both databases and JSON can hold, or None."""
    return float(value) if value is not None and -1e300 < value < 1e300 and math.isfinite(value) else None

"""Value types of stored incidents. The pydantic models survive a round trip through JSON unchanged."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any, Final, TypedDict

from pydantic import BaseModel, ConfigDict

from relab.core.clock import Timestamp, format_time
from relab.incidents.models import Anomaly, Severity
from relab.incidents.storage.text_limits import cut

EVENT_SOURCE: Final = "/agent/incidents"
_EVENT_KIND: Final = re.compile(r"[a-z][a-z0-9_]{0,59}")


class IncidentStatus(StrEnum):
    """The present status of an incident: open, waiting for approval, escalated to a person, resolved, or closed.

    A resolved or closed incident is over. While an incident is not over, no other incident is opened for its target.
    """

    OPEN = "open"
    WAITING_APPROVAL = "waiting_approval"
    ESCALATED = "escalated"
    """A person handles the incident."""
    RESOLVED = "resolved"
    CLOSED = "closed"

    @property
    def is_over(self) -> bool:
        """Whether the incident has ended: the responder repaired it (resolved), or it ended in another way (closed)."""
        return self in {IncidentStatus.RESOLVED, IncidentStatus.CLOSED}


class Phase(StrEnum):
    """The phase of the response to an incident, such as `diagnose`, `execute` or `verify`.

    Each phase has the name of the workflow node in `incidents/response/graph.py` that runs during this phase.
    """

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


class IncidentOutcome(StrEnum):
    """How an incident ended: repaired by the responder or a person, passed, or closed or dismissed by a person."""

    RESOLVED = "resolved"
    """The responder repaired the cause and verified the repair."""
    ESCALATED = "escalated"
    """Actions of a person ended the problem, and users were served well afterwards."""
    PASSED = "passed"
    """The problem has passed, but no action of the responder is known to be the reason."""
    DISMISSED = "dismissed"
    """A person dismissed the incident as a false positive."""
    CLOSED_BY_PERSON = "closed_by_person"
    """A person closed the incident as repaired; the responder has not verified that users are served well."""

    @property
    def status(self) -> IncidentStatus:
        """The status of an incident that ended with this outcome."""
        return IncidentStatus.RESOLVED if self is IncidentOutcome.RESOLVED else IncidentStatus.CLOSED


class EventKind(StrEnum):
    """The kinds of timeline events that the storage appends itself.

    The responder appends events of further kinds, which are plain strings.
    """

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
    """The event that ends an incident. Followers of the timeline get no later event, although later ones may be stored."""


class _Remembered(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class IncidentFinding(_Remembered):
    """All anomalies of an incident that have the same detector and the same signal, stored as one entry.

    Attributes:
        detector: the name of the detector; `alert` for a received alert, `trigger` for the report of a person.
        signal: the name of the signal (measured value), or of the alert.
        value: the latest value of the signal; None if it is not a number.
        expected: the bound that this value violates, or the usual value; None if it is not a number.
        detail: one sentence about the latest anomaly, for people.
        opens: whether the anomaly alone may open an incident.
        severity: the worst severity so far.
        count: the number of these anomalies.
        worst_value: the value so far that is farthest from `expected`, on the same side as `value`; None if the signal
            is not a number, or if an earlier version stored the finding.
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
    worst_value: float | None = None

    @property
    def worst(self) -> Anomaly:
        """The latest anomaly of this finding, but with the worst severity and the worst value so far."""
        return replace(self.anomaly, value=self.value if self.worst_value is None else self.worst_value)

    @property
    def anomaly(self) -> Anomaly:
        """The latest anomaly of this finding, but with the worst severity so far."""
        return Anomaly(
            self.detector, self.signal, self.severity, self.value, self.expected, self.detail, opens=self.opens
        )


def finding_of(anomaly: Anomaly, at_us: int) -> IncidentFinding:
    """Convert an anomaly that was seen at `at_us` (microseconds since 1970) to a finding for storage.

    Texts are cut to a bounded size, and non-finite numbers are replaced by None.
    """
    return IncidentFinding(
        detector=cut(anomaly.detector, 100),
        signal=cut(anomaly.signal, 300),
        severity=anomaly.severity,
        value=finite(anomaly.value),
        expected=finite(anomaly.expected),
        detail=cut(anomaly.detail, 500),
        opens=anomaly.opens,
        first_at=at_us,
        last_at=at_us,
        worst_value=finite(anomaly.value),
    )


class IncidentSummary(_Remembered):
    """The fields of an incident that lists of incidents show.

    Attributes:
        phase: the phase of the response, such as `diagnose`.
        outcome: how the incident ended; None until it is over.
        diagnosis: the most probable cause; None before the first diagnosis.
        probability: the probability of that cause.
        recommendation: why a person is needed, from the last handover to people; empty if there was none. After the end,
            how the incident ended.
        last_seq: the number of the last event of the incident's timeline.
    """

    incident_id: str
    target: str
    title: str
    severity: Severity
    status: IncidentStatus
    phase: Phase
    outcome: IncidentOutcome | None
    diagnosis: str | None
    probability: float | None
    recommendation: str
    opened_at: Timestamp
    updated_at: Timestamp
    closed_at: Timestamp | None
    last_seq: int

    @property
    def is_over(self) -> bool:
        """Whether the incident has ended: the responder repaired it (resolved), or it ended in another way (closed)."""
        return self.status.is_over


class Incident(IncidentSummary):
    """All stored fields of an incident.

    Attributes:
        findings: the anomalies found by detectors, alerts and people, the earliest first.
        symptoms: the values of the facts at the last diagnosis or handover to people, by the name of the fact.
        plan: the latest action plan, as JSON; None before the first plan.
        content: other data that the responder stores with the incident, as JSON.
    """

    findings: tuple[IncidentFinding, ...]
    symptoms: dict[str, Any]
    plan: dict[str, Any] | None
    content: dict[str, Any]


class IncidentPage(_Remembered):
    """A page of a list of incidents, the newest first.

    Attributes:
        next_cursor: the cursor for the next page; None on the last page.
    """

    items: list[IncidentSummary]
    next_cursor: str | None


class IncidentChange(TypedDict, total=False):
    """The fields of an incident that can be changed; a field that is not given keeps its value."""

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
    """An event to be appended to the timeline of an incident.

    Attributes:
        kind: the kind of the event, such as `diagnosed`; only the storage may use `closed`.
        message: one sentence for people.
        content: the data of the event, as JSON values.
        evidence: ids of the evidence that the event is based on.
        once: an idempotency key. If the timeline already has an event with this key, the event is not appended. None:
            the event is always appended.
    """

    kind: str
    message: str = ""
    content: Mapping[str, Any] = field(default_factory=dict)
    evidence: Sequence[str] = ()
    # A restarted responder may repeat a step, so its events have a key.
    once: str | None = None

    def __post_init__(self) -> None:
        if not _EVENT_KIND.fullmatch(self.kind):
            raise ValueError(f"{self.kind!r} is not a kind of event: lower-case letters, digits and underscores")


class TimelineEvent(_Remembered):
    """An event of the timeline of an incident.

    Attributes:
        seq: the number of the event; it counts up from 1 without a gap.
        at: when the event happened, in microseconds since 1970.
        content: the data of the event.
        evidence: ids of the evidence that the event is based on.
    """

    incident_id: str
    seq: int
    kind: str
    at: Timestamp
    message: str
    content: dict[str, Any]
    evidence: tuple[str, ...]

    @property
    def is_terminal(self) -> bool:
        """Whether this event closed the incident."""
        return self.kind == EventKind.CLOSED

    def to_cloudevent(self) -> dict[str, Any]:
        """Return the event in the CloudEvents 1.0 format; no other event has the same id."""
        return {
            "specversion": "1.0",
            "id": f"{self.incident_id}:{self.seq}",
            "source": EVENT_SOURCE,
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
    """The result of opening an incident, or of adding anomalies to an open one.

    Attributes:
        incident: the new incident, or the open one that the anomalies joined.
        created: whether the incident is new.
    """

    incident: Incident
    created: bool


class SwitchState(_Remembered):
    """The state of a kill switch: whether a target is paused, and who paused or resumed it.

    Attributes:
        target: the target of the switch; `*` for the switch of all targets.
        by: the person who changed the switch last; None if it was never changed.
        at: when that person changed the switch, in microseconds since 1970; None if it was never changed.
        why: the reason for that change; empty if no reason was given, or if the switch was never changed.
    """

    target: str
    is_paused: bool
    by: str | None = None
    at: Timestamp | None = None
    why: str = ""


class Lease(_Remembered):
    """The right of one process to watch a target and to respond to its incidents, for a limited time.

    Attributes:
        owner: the name of the process.
        term: increases by 1 whenever the owner changes.
        until: when the lease ends, unless it is renewed; in microseconds since 1970.
    """

    target: str
    owner: str
    term: int
    until: Timestamp


@dataclass(frozen=True, slots=True)
class ReceivedAlert:
    """An alert that was received from outside.

    Attributes:
        fingerprint: a hash of the alert's labels.
        starts_at_us: when the alert began, in microseconds since 1970; None if its sender does not say so.
        is_firing: whether the alert still fires; False if it has ended.
        anomaly: the anomaly that the alert reports.
        content: the alert's labels and annotations, unchanged.
    """

    fingerprint: str
    starts_at_us: int | None
    is_firing: bool
    anomaly: Anomaly
    content: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class AlertIntake:
    """The result of storing the alerts of a notification.

    Attributes:
        fresh: the alerts that are new, that have just ended, or that still fire ten minutes after their incident ended.
            A dismissed incident does not count as ended.
        opened: the incident that firing alerts in `fresh` opened or joined; None if no alert in `fresh` fires.
    """

    fresh: tuple[ReceivedAlert, ...]
    opened: Opened | None


def finite(value: float | None) -> float | None:
    """Return a number if databases and JSON can store it; None for None, NaN, infinity and values beyond ±1e300."""
    return float(value) if value is not None and -1e300 < value < 1e300 and math.isfinite(value) else None

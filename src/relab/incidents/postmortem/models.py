"""Value types of a postmortem: its inputs and its content, before it becomes Markdown or a page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from relab.core.clock import Timestamp
from relab.incidents.actions.approvals import ApprovalRequest, Decision
from relab.incidents.actions.records import ActionRecord
from relab.incidents.storage.models import Incident, TimelineEvent

USERS_NOTICE: Final = ("errors.pct", "latency.p95_ms")
"""Signals that users notice; for each, lower is better."""


@dataclass(frozen=True, slots=True)
class Signals:
    """Samples of signals from the polls around an incident.

    Attributes:
        times_us: the times of the polls, in order, in microseconds since 1970.
        numbers: `{signal: values}`, with one value for each of `times_us`; None if that poll had no value.
    """

    times_us: tuple[int, ...] = ()
    numbers: Mapping[str, tuple[float | None, ...]] = field(default_factory=dict)

    def points(self, name: str) -> list[tuple[int, float]]:
        """Return the values of the signal `name` in the polls, as `(time in microseconds since 1970, value)` in order.

        Polls without a value are left out.
        """
        if name not in self.numbers:
            return []
        pairs = zip(self.times_us, self.numbers[name], strict=True)
        return [(at_us, value) for at_us, value in pairs if value is not None]


@dataclass(frozen=True, slots=True)
class IncidentRecord:
    """The stored data of an incident.

    Attributes:
        incident: the present state of the incident.
        events: the timeline of the incident.
        actions: the actions of the responder, at most 1,000.
        approvals: the approval requests with their decisions; the decision is None if there was none.
    """

    incident: Incident
    events: Sequence[TimelineEvent] = ()
    actions: Sequence[ActionRecord] = ()
    approvals: Sequence[tuple[ApprovalRequest, Decision | None]] = ()


class MarkKind(StrEnum):
    """The kind of a moment that a chart marks: onset of the problem, detection, action, verification, or end."""

    ONSET = "onset"
    DETECTION = "detection"
    ACTION = "action"
    VERIFICATION = "verification"
    END = "end"


@dataclass(frozen=True, slots=True)
class ChartMark:
    """A moment that a chart marks.

    Attributes:
        at: the time of the moment.
        moment: the kind of moment.
        label: what happened, in a few words.
    """

    at: Timestamp
    moment: MarkKind
    label: str


@dataclass(frozen=True, slots=True)
class TimelineEntry:
    """A line of the timeline in a postmortem.

    Attributes:
        at: the time of the event.
        kind: the kind of the event.
        message: what happened, in one sentence.
        evidence: ids of the evidence that the event is based on.
    """

    at: Timestamp
    kind: str
    message: str
    evidence: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class CitedEvidence:
    """A piece of evidence that the timeline cites.

    Attributes:
        fact, value: the name and the value of the fact that the evidence proves.
        request: the request that a probe sent, such as `target GET /path`.
        verbatim: the quoted part of the response to this request.
    """

    evidence_id: str
    fact: str
    value: str
    request: str
    verbatim: str


@dataclass(frozen=True, slots=True)
class ActionReview:
    """An action in an incident, and its result, as texts for the postmortem.

    Attributes:
        at: when the action was requested; None if the time was not stored.
        parameters: the values of the action's parameters, as text.
        by: the person or process that did the action, and the person who approved it.
        why: the reason for the action.
        result: the result in words, with the judgement of verification and its reason.
        has_helped: whether the action helped, according to verification. An action of others counts as helpful if it was
            the last successful one before the recovery.
        measured: the signals before and after the action, in words; empty without samples.
        has_eased: whether errors or latency were clearly lower after the action, whatever verification concluded.
    """

    at: Timestamp | None
    action: str
    parameters: str
    by: str
    why: str
    result: str
    has_helped: bool
    measured: str = ""
    has_eased: bool = False


@dataclass(frozen=True, slots=True)
class DiagnosisPeriod:
    """A diagnosis of an incident, and why the responder gave it up or kept it.

    Attributes:
        at: when the diagnosis was first made.
        causes: one cause, or two causes that are present together.
        probability: the latest probability of `causes`; None if the timeline lacks it.
        evidence: the ids of the evidence for the diagnosis.
        is_confirmed: whether probes at two times confirmed the diagnosis.
        ended: one sentence: why the diagnosis was given up, or that it was kept.
    """

    at: Timestamp
    causes: tuple[str, ...]
    probability: float | None
    evidence: tuple[str, ...] = ()
    is_confirmed: bool = False
    ended: str = ""


@dataclass(frozen=True, slots=True)
class SampleGap:
    """A period without samples (measured values) of a signal: from the sample before it to the sample after it."""

    begin: Timestamp
    end: Timestamp


@dataclass(frozen=True, slots=True)
class SignalChange:
    """The change of a signal (a measured value of the target) around an action.

    Attributes:
        before: the median of the last samples before the action; None without samples just before the action.
        after: the median of the last samples after the action; None if there are too few.
        within_s: the seconds from the start of the action until the signal stayed nearer to `after` than to `before`.
            None if the signal did not change, or did not stay nearer to `after`.
        has_moved: whether `before` and `after` differ by more than noise.
    """

    signal: str
    before: float | None
    after: float | None
    within_s: float | None
    has_moved: bool

    @property
    def has_eased(self) -> bool:
        """Whether errors or P95 latency fell by more than noise after the action; False for every other signal."""
        is_lower = self.before is not None and self.after is not None and self.after < self.before
        return self.has_moved and is_lower and self.signal in USERS_NOTICE


@dataclass(frozen=True, slots=True)
class FollowUp:
    """A task to be done after an incident.

    Attributes:
        what: the task, in one sentence.
        ground: the reason for it.
    """

    what: str
    ground: str


@dataclass(frozen=True, slots=True)
class SignalSeries:
    """A signal (a measured value of the target) over time.

    Attributes:
        points: the samples, as `(time, value)` in order of time.
        gaps: times without samples; no line is to be drawn through them.
    """

    name: str
    points: tuple[tuple[Timestamp, float], ...]
    gaps: tuple[SampleGap, ...] = ()


@dataclass(frozen=True, slots=True)
class Postmortem:
    """The content of a postmortem; a renderer must escape all texts, because they come from outside.

    Attributes:
        is_over: whether the incident is over.
        overview: the rows of the table of key facts, as `(label, value)`.
        summary: the sentences of the summary.
        timeline: the events, at most `MAX_ENTRIES`.
        left_out: the number of events that the timeline omits.
        evidence: the evidence that the timeline cites, without duplicates, the latest first; at most `MAX_EXHIBITS`.
        actions: the responder's actions in order, then the actions of people and other clients.
        worked: a text about the actions that ended the incident, or about actions after which measured values improved.
        follow_ups: the tasks for people after the incident, each with its reason.
        signals: the signals to draw as charts.
        marks: the moments that the charts mark, in order.
        diagnoses: the diagnoses in order, each with a sentence that says why it was given up, or that it was kept.
    """

    incident_id: str
    is_over: bool
    title: str
    overview: tuple[tuple[str, str], ...]
    summary: tuple[str, ...]
    timeline: tuple[TimelineEntry, ...]
    left_out: int
    evidence: tuple[CitedEvidence, ...]
    actions: tuple[ActionReview, ...]
    worked: str
    follow_ups: tuple[FollowUp, ...]
    marks: tuple[ChartMark, ...]
    signals: tuple[SignalSeries, ...]
    diagnoses: tuple[DiagnosisPeriod, ...] = ()

    @property
    def notice(self) -> str:
        """A warning for readers that the incident is not over yet; empty if it is over."""
        return "" if self.is_over else "This incident is not over: this is its present state."

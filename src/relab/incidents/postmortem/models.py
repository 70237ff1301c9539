"""Values of a postmortem: what it is made of, and what it says, before it is Markdown or a page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from relab.core.clock import Timestamp
from relab.incidents.acting.approvals import ApprovalRequest, Decision
from relab.incidents.acting.records import ActRecord
from relab.incidents.storage.models import Incident, TimelineEvent

USERS_NOTICE: Final = ("errors.pct", "latency.p95_ms")
"""Signals of what users notice; the lower, the better."""


@dataclass(frozen=True, slots=True)
class Signals:
    """Numbers of polls around an incident.

    Attributes:
        times_us: of the polls, in order.
        numbers: by signal a value for each of the times; None where a poll did not tell it.
    """

    times_us: tuple[int, ...] = ()
    numbers: Mapping[str, tuple[float | None, ...]] = field(default_factory=dict)

    def points(self, name: str) -> list[tuple[int, float]]:
        """Return times and values of a signal, in order, without those that are not known."""
        if name not in self.numbers:
            return []
        told = zip(self.times_us, self.numbers[name], strict=True)
        return [(at_us, value) for at_us, value in told if value is not None]


@dataclass(frozen=True, slots=True)
class Case:
    """All that was written down of an incident.

    Attributes:
        events: its timeline.
        acts: of the responder.
        approvals: what people were asked, and what they answered.
    """

    incident: Incident
    events: Sequence[TimelineEvent] = ()
    acts: Sequence[ActRecord] = ()
    approvals: Sequence[tuple[ApprovalRequest, Decision | None]] = ()


class Moment(StrEnum):
    """What a chart marks."""

    ONSET = "onset"
    DETECTION = "detection"
    ACTION = "action"
    VERIFICATION = "verification"
    END = "end"


@dataclass(frozen=True, slots=True)
class Mark:
    """A moment that counts.

    Attributes:
        label: what happened, in a few words.
    """

    at: Timestamp
    moment: Moment
    label: str


@dataclass(frozen=True, slots=True)
class Entry:
    """A line of the timeline.

    Attributes:
        evidence: ids of what it rests on.
    """

    at: Timestamp
    kind: str
    message: str
    evidence: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Exhibit:
    """A piece of evidence, as it was cited.

    Attributes:
        request: whom it was asked of, and what.
        verbatim: what stood there, word for word.
    """

    evidence_id: str
    fact: str
    value: str
    request: str
    verbatim: str


@dataclass(frozen=True, slots=True)
class Attempt:
    """Something that was done, and what came of it.

    Attributes:
        at: None if nobody has written down when.
        by: who did it or allowed it.
        outcome: what is known of it, with the verdict of verification and its reason.
        has_helped: whether it ended the incident, as verified.
        measured: figures before and after it, in words; empty if there are no samples around it.
        has_eased: whether errors or latency were considerably lower after it, whatever verification says.
    """

    at: Timestamp | None
    action: str
    parameters: str
    by: str
    why: str
    outcome: str
    has_helped: bool
    measured: str = ""
    has_eased: bool = False


@dataclass(frozen=True, slots=True)
class Belief:
    """A diagnosis, and what became of it.

    Attributes:
        at: when it was first made.
        causes: one cause, or two at once.
        probability: of the cause or of both at once, as it was last; None if the timeline does not say.
        evidence: ids of what it rests on.
        is_confirmed: whether looks of two moments showed it.
        ended: why it was given up, or that it was not.
    """

    at: Timestamp
    causes: tuple[str, ...]
    probability: float | None
    evidence: tuple[str, ...] = ()
    is_confirmed: bool = False
    ended: str = ""


@dataclass(frozen=True, slots=True)
class Gap:
    """A time without samples of a signal, between two samples."""

    begin: Timestamp
    end: Timestamp


@dataclass(frozen=True, slots=True)
class Change:
    """What a signal did around an act.

    Attributes:
        before, after: the median of some samples just before and some time after the act; None without samples.
        within_s: from the begin of the act until samples stayed on the side of `after`.
        has_moved: whether `before` and `after` differ by more than noise.
    """

    signal: str
    before: float | None
    after: float | None
    within_s: float | None
    has_moved: bool

    @property
    def has_eased(self) -> bool:
        """Whether users noticed less of the incident after the act."""
        is_lower = self.before is not None and self.after is not None and self.after < self.before
        return self.has_moved and is_lower and self.signal in USERS_NOTICE


@dataclass(frozen=True, slots=True)
class FollowUp:
    """Something to be done afterwards.

    Attributes:
        ground: the fact that it follows from.
    """

    what: str
    ground: str


@dataclass(frozen=True, slots=True)
class Figure:
    """A signal over time.

    Attributes:
        points: times and values, in order.
        gaps: times without samples; no line is to be drawn through them.
    """

    name: str
    points: tuple[tuple[Timestamp, float], ...]
    gaps: tuple[Gap, ...] = ()


@dataclass(frozen=True, slots=True)
class Postmortem:
    """What there is to say. Its texts are of outside, and are to be escaped by whoever shows them.

    Attributes:
        is_over: whether there is nothing more to come.
        overview: names and values.
        summary: sentences.
        left_out: how many events of the timeline are not in it.
        worked: what ended the incident, as far as verification and samples show it.
        beliefs: diagnoses in order, and why each was given up.
    """

    incident_id: str
    is_over: bool
    title: str
    overview: tuple[tuple[str, str], ...]
    summary: tuple[str, ...]
    timeline: tuple[Entry, ...]
    left_out: int
    evidence: tuple[Exhibit, ...]
    attempts: tuple[Attempt, ...]
    worked: str
    follow_ups: tuple[FollowUp, ...]
    marks: tuple[Mark, ...]
    figures: tuple[Figure, ...]
    beliefs: tuple[Belief, ...] = ()

    @property
    def notice(self) -> str:
        """What whoever reads it must know first; empty where there is nothing."""
        return "" if self.is_over else "This incident is not over: what follows is how far it is."

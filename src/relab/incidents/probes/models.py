"""Value types of probes: requests, answers, and the facts and evidence found in them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

from relab.incidents.models import AbsenceReason
from relab.knowledge.models import FactValue

BUDGET_S: Final = 6.0
"""The time limit, in seconds, of probes that are run together.

Answers after it count as absent; the others are used.
"""


class ProbeServer(StrEnum):
    """The server that a probe's request is sent to: the target, or the action server, which executes repairs."""

    TARGET = "target"
    ACTIONS = "actions"


@dataclass(frozen=True, slots=True)
class ProbeRequest:
    """A read-only request that a probe sends.

    Attributes:
        base: the server that receives the request.
        path: the path with its query.
        within_s: the time limit of an answer, in seconds, at most `BUDGET_S`. It must be longer than the server's own time
            limits for its dependencies, so that the server can report their time-outs.
        times: how often the request is sent. A fact about growth needs two or more answers.
        pause_s: the pause between an answer and the next sending, in seconds.
    """

    base: ProbeServer
    path: str
    within_s: float = 2.0
    times: int = 1
    pause_s: float = 0.0

    def __str__(self) -> str:
        """Return the text that stands for the request in the evidence of a diagnosis, such as `target GET /path`."""
        return f"{self.base.value} GET {self.path}"


@dataclass(frozen=True, slots=True)
class ProbeResponse:
    """The answer to a probe's request, or the reason why no answer came.

    Attributes:
        request: the request, such as `target GET /path`.
        document: the JSON of the answer; None if no answer came.
        absence: why no answer came; None if an answer came.
        reason: `absence` in words, for people.
        at_s: when the answer arrived, in seconds of a monotonic clock.
        ahead_us: how far the server's clock is ahead of the local clock, in microseconds.
    """

    request: str
    document: Any = None
    absence: AbsenceReason | None = None
    reason: str = ""
    at_s: float = 0.0
    ahead_us: int = 0


@dataclass(frozen=True, slots=True)
class Observation:
    """A fact, and its position in the answers of a probe.

    Attributes:
        fact: the name of the fact.
        answer: the index of the answer that shows the fact, from 0.
        pointer: the position in the answer's JSON, as a JSON Pointer (RFC 6901).
        verbatim: the value at that position, as JSON; a long value is cut.
    """

    fact: str
    value: FactValue
    answer: int
    pointer: str
    verbatim: str


@dataclass(frozen=True, slots=True)
class ProbeEvidence:
    """A fact that a probe found, with the quoted part of the answer that proves the fact.

    Attributes:
        evidence_id: the id by which the evidence is cited: a hash of the other fields, so it is the same after a
            restart.
        look: the name of the probe.
        request: the request whose answer shows the fact.
        pointer: the position in the answer's JSON, as a JSON Pointer (RFC 6901).
        fact: the name of the fact.
        verbatim: the value at that position, as JSON; a long value is cut.
        at_us: when the answer was received, in microseconds since 1970.
    """

    evidence_id: str
    look: str
    request: str
    pointer: str
    fact: str
    value: FactValue
    verbatim: str
    at_us: int


FactReader = Callable[[Sequence[ProbeResponse], int], list[Observation]]
"""A function that returns the facts in the answers of a probe.

Its arguments are the answers, in the order of their requests, and the current time by the server's clock, in
microseconds since 1970. Answers are data from outside: the function must not raise, whatever they contain.
"""


@dataclass(frozen=True, slots=True)
class Probe:
    """A named set of read-only requests, with a function that reads facts from their answers.

    Attributes:
        shows: a short description of the probe's subject, for people and models.
        requests: the requests of the probe.
        read: the function that returns the facts in the answers.
        facts: the names of all facts that the probe can find; its result may lack some of them.
        cost: how expensive the probe is in time and load on the target, relative to one simple request (1.0).
    """

    name: str
    shows: str
    requests: tuple[ProbeRequest, ...]
    read: FactReader
    facts: tuple[str, ...]
    cost: float = 1.0


@dataclass(frozen=True, slots=True)
class ProbeResult:
    """The result of probes that were run together.

    Attributes:
        facts: the value of each fact, by the name of the fact.
        evidence: one piece of evidence for each fact.
        absent: for each request without an answer, the reason.
    """

    facts: Mapping[str, FactValue] = field(default_factory=dict)
    evidence: tuple[ProbeEvidence, ...] = ()
    absent: Mapping[str, str] = field(default_factory=dict)

"""Value types of probes: requests, answers, and the facts and evidence found in them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from relab.incidents.models import AbsenceReason
from relab.knowledge.models import FactValue


class ProbeServer(StrEnum):
    """The server that a request goes to."""

    TARGET = "target"
    ACTIONS = "actions"


@dataclass(frozen=True, slots=True)
class ProbeRequest:
    """A read-only request.

    Attributes:
        path: with its query.
        within_s: time limit of an answer. Some answers report a time-out of a dependency, and come only after it.
        times, pause_s: how often it is sent, and the pause after each answer: growth shows only in two answers.
    """

    base: ProbeServer
    path: str
    within_s: float = 2.0
    times: int = 1
    pause_s: float = 0.0

    def __str__(self) -> str:
        """Return the request as evidence names it, such as `target GET /path`."""
        return f"{self.base.value} GET {self.path}"


@dataclass(frozen=True, slots=True)
class ProbeResponse:
    """The result of a request.

    Attributes:
        document: the JSON; None if there is no answer.
        absence: why there is no answer.
        reason: the same in words, for people.
        at_s: when it arrived, by a monotonic clock; for differences between answers.
        ahead_us: how far the server's clock is ahead of ours.
    """

    request: str
    document: Any = None
    absence: AbsenceReason | None = None
    reason: str = ""
    at_s: float = 0.0
    ahead_us: int = 0


@dataclass(frozen=True, slots=True)
class Observation:
    """A fact, and its place in the answers.

    Attributes:
        answer: the index of the answer, from 0.
        pointer: the place in its JSON, a JSON Pointer (RFC 6901).
        verbatim: the value at that place, as JSON; a long one is cut.
    """

    fact: str
    value: FactValue
    answer: int
    pointer: str
    verbatim: str


@dataclass(frozen=True, slots=True)
class ProbeEvidence:
    """A sighting that can be cited.

    Attributes:
        evidence_id: a hash of the other fields, so that the same sighting has the same id after a restart.
        request: the request that it came from.
        at_us: when it was seen.
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
"""A function from the answers of a probe, in the order of their requests, and the current time (UTC, in us, by the server's
clock) to the facts that they show.

Answers are data from outside: a reader must not raise, whatever they contain.
"""


@dataclass(frozen=True, slots=True)
class Probe:
    """A named probe.

    Attributes:
        shows: for people and models, in a few words.
        cost: relative to a simple request; higher if it takes longer or puts load on the target.
        facts: all facts that it can give; those that it does not find are absent from its result.
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
        facts: by name.
        evidence: one for each fact.
        absent: for each request without an answer, the reason.
    """

    facts: Mapping[str, FactValue] = field(default_factory=dict)
    evidence: tuple[ProbeEvidence, ...] = ()
    absent: Mapping[str, str] = field(default_factory=dict)

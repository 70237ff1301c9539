"""Values of looks: what is asked, what was answered, and what was seen in it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from relab.incidents.models import Absence
from relab.knowledge.models import FactValue


class Base(StrEnum):
    """Who is asked."""

    TARGET = "target"
    ACTIONS = "actions"


@dataclass(frozen=True, slots=True)
class Ask:
    """A request that changes nothing.

    Attributes:
        path: with its query.
        within_s: how long an answer may take. Some answers tell of a dependency's time-out, and come after it.
        times, pause_s: how often it is asked, and how long after the answer before: what grows shows in two answers only.
    """

    base: Base
    path: str
    within_s: float = 2.0
    times: int = 1
    pause_s: float = 0.0

    def __str__(self) -> str:
        """Return it as evidence names it."""
        return f"{self.base.value} GET {self.path}"


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of an ask.

    Attributes:
        document: the JSON; None where there is none.
        absence: why there is none.
        reason: in words, for people.
        at_s: by a clock that only goes forward, when it was there; for differences between answers.
        ahead_us: how far the clock of whoever answered is ahead of ours.
    """

    request: str
    document: Any = None
    absence: Absence | None = None
    reason: str = ""
    at_s: float = 0.0
    ahead_us: int = 0


@dataclass(frozen=True, slots=True)
class Sighting:
    """A fact, and where in the answers it stands.

    Attributes:
        answer: which of the answers, counted from 0.
        pointer: the place in its JSON, as RFC 6901 writes it.
        verbatim: what stands there, as JSON; a long one is cut.
    """

    fact: str
    value: FactValue
    answer: int
    pointer: str
    verbatim: str


@dataclass(frozen=True, slots=True)
class Evidence:
    """A sighting that can be cited.

    Attributes:
        evidence_id: follows from all else, so that the same sighting has the same id after a restart.
        request: whom it was asked of, and what.
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


Reader = Callable[[Sequence[Answer], int], list[Sighting]]
"""From the answers of a look, in the order in which they were asked for, and the time now (UTC, in us, by the clock of whoever
answered), to what they show.

Answers are data from outside: whatever they hold, a reader returns.
"""


@dataclass(frozen=True, slots=True)
class Look:
    """A named look.

    Attributes:
        shows: for people and models, in a few words.
        cost: relative to a simple request; what takes longer or weighs on the target costs more.
        facts: all that it can tell; what it does not see it leaves out.
    """

    name: str
    shows: str
    asks: tuple[Ask, ...]
    read: Reader
    facts: tuple[str, ...]
    cost: float = 1.0


@dataclass(frozen=True, slots=True)
class Looked:
    """What came of looks that were taken together.

    Attributes:
        facts: by name.
        evidence: one for each fact.
        absent: by request, why it has no answer.
    """

    facts: Mapping[str, FactValue] = field(default_factory=dict)
    evidence: tuple[Evidence, ...] = ()
    absent: Mapping[str, str] = field(default_factory=dict)

"""Values of knowledge: a runbook, what it expects to be seen and would have done; an incident of the past."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Annotated, Any, Final

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from relab.core.clock import Timestamp
from relab.core.ids import ExternalId

FactValue = float | str | bool
"""What a look has found: a number, a word, or whether something is so."""

CAUSE_PATTERN: Final = r"^[a-z][a-z0-9_]{0,99}$"
UNNAMED: Final = "unknown"
"""The cause that no runbook may have: it stands for all that none describes."""
_FIELD: Final = re.compile(r"\{([^{}]+)\}")


class Operator(StrEnum):
    """How a fact is compared with what a condition names."""

    AT_LEAST = "at_least"
    AT_MOST = "at_most"
    IS = "is"
    IS_NOT = "is_not"


@dataclass(frozen=True, slots=True)
class Condition:
    """Something that can be seen or not.

    Attributes:
        fact: a dotted name, as looks give it.
        operator, value: when it holds.
    """

    fact: str
    operator: Operator
    value: FactValue

    def holds(self, facts: Mapping[str, FactValue]) -> bool | None:
        """Return whether it holds; None if the fact is not known, or of another kind than the condition's."""
        found = facts.get(self.fact)
        if found is None:
            return None
        if self.operator in {Operator.IS, Operator.IS_NOT}:
            same = found == self.value and _kind(found) is _kind(self.value)
            return same is (self.operator is Operator.IS)
        if isinstance(found, bool | str) or isinstance(self.value, bool | str):
            return None
        return found >= self.value if self.operator is Operator.AT_LEAST else found <= self.value

    def __str__(self) -> str:
        """Return it as people say it."""
        return f"{self.fact} {self.operator.value.replace('_', ' ')} {self.value}"


@dataclass(frozen=True, slots=True)
class Expectation:
    """A condition, and what it says about a cause.

    Attributes:
        likely: the probability that the condition holds if this is the cause.
        otherwise: the probability that it holds if it is not.
    """

    condition: Condition
    likely: float
    otherwise: float


@dataclass(frozen=True, slots=True)
class RunbookAction:
    """An action that a runbook would have done.

    Attributes:
        parameters: of the action; `{name}` in a text stands for a fact.
        why: what it mends.
    """

    action: str
    parameters: Mapping[str, FactValue] = field(default_factory=dict)
    why: str = ""

    @property
    def needs(self) -> tuple[str, ...]:
        """The facts that its parameters stand for, each once."""
        texts = (value for value in self.parameters.values() if isinstance(value, str))
        return tuple(dict.fromkeys(name for text in texts for name in _FIELD.findall(text)))


class Risk(StrEnum):
    """How much an action of the runbook may harm if the cause is another one."""

    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"


@dataclass(frozen=True, slots=True)
class Runbook:
    """One cause, as somebody who has met it describes it.

    Attributes:
        cause: one word for it; of all runbooks in use at once each has another one.
        symptoms: sentences as people on call would write them; what a search is made over.
        expects: what is seen if it is the cause.
        looks: which looks tell most, by name.
        actions: in the order in which they are to be tried; one of them mends it.
        mended: what must hold for the cause to be gone.
        requires: without which it cannot be the cause, whatever else is seen; what is not known rules nothing out.
        sheds: whether its repair is to refuse what is too much; as long as that lasts refusals are no sign that it has failed,
            and when no more come than usual it is taken back.
        prior: how often it is the cause, relative to others.
        text: for people, Markdown.
        source: where it comes from, as messages name it.
        lines: of its file, by dotted field; what is nowhere written down has none.
    """

    cause: str
    title: str
    symptoms: tuple[str, ...]
    expects: tuple[Expectation, ...]
    looks: tuple[str, ...]
    actions: tuple[RunbookAction, ...]
    mended: tuple[Condition, ...]
    risk: Risk
    prior: float = 1.0
    requires: tuple[Condition, ...] = ()
    sheds: bool = False
    text: str = ""
    source: str = ""
    lines: Mapping[str, int] = field(default_factory=dict, compare=False, repr=False)

    def line_of(self, name: str) -> int | None:
        """Return the line of a field, or of the nearest part around it; None if this was not read from a file."""
        while name and name not in self.lines:
            name = name.rpartition(".")[0]
        return self.lines.get(name)


class Attempt(StrEnum):
    """What came of an action."""

    HELPED = "helped"
    CHANGED_NOTHING = "changed_nothing"
    MADE_WORSE = "made_worse"
    NOT_DONE = "not_done"


class Resolver(StrEnum):
    """Who ended an incident."""

    RESPONDER = "responder"
    PERSON = "person"
    ITSELF = "itself"


_NO_TEXT: Final = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")


def _cleaned(value: Any) -> Any:
    """Return a text that every database can hold: what is remembered came from logs, and may be anything."""
    return _NO_TEXT.sub("\ufffd", value) if isinstance(value, str) else value


def _cut(most: int) -> BeforeValidator:
    return BeforeValidator(lambda value: _cleaned(value)[:most] if isinstance(value, str) else value)


Word = Annotated[str, _cut(1_000)]
FactName = Annotated[str, _cut(200)]
Number = Annotated[float, Field(allow_inf_nan=False)]
RememberedFact = Annotated[bool | Number | Word, Field(union_mode="smart")]
MAX_FACTS: Final = 2_000
MAX_TEMPLATES: Final = 500
MAX_TRIED: Final = 100


class _Remembered(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Tried(_Remembered):
    """An action of an incident, and what came of it."""

    action: Annotated[str, _cut(200)]
    parameters: Annotated[Mapping[FactName, RememberedFact], Field(max_length=100)] = Field(default_factory=dict)
    outcome: Attempt


class PastIncident(_Remembered):
    """An incident that is over, as it is to be remembered.

    Attributes:
        target: the service, as its responder calls it.
        cause: what it was in the end; a runbook may have it, or none.
        facts, templates: what was seen when the cause was looked for; log templates with their counts.
        well: what the same looks told when it was over: what is usual, for whoever asks what differed.
        tried: what was done, in order.
        resolved_by, resolver: what kind of actor ended it, and its name.
        note: what a person has to say about it.
    """

    incident_id: ExternalId
    target: Annotated[str, _cut(200)] = ""
    opened_at: Timestamp
    resolved_at: Timestamp
    cause: Annotated[str, Field(pattern=CAUSE_PATTERN)]
    facts: Annotated[Mapping[FactName, RememberedFact], Field(max_length=MAX_FACTS)] = Field(default_factory=dict)
    templates: Annotated[Mapping[Word, Annotated[int, Field(ge=0, le=10**12)]], Field(max_length=MAX_TEMPLATES)] = (
        Field(default_factory=dict)
    )
    well: Annotated[Mapping[FactName, RememberedFact], Field(max_length=MAX_FACTS)] = Field(default_factory=dict)
    tried: Annotated[tuple[Tried, ...], Field(max_length=MAX_TRIED)] = ()
    resolved_by: Resolver
    resolver: Annotated[str, _cut(200)] = ""
    note: Annotated[str, _cut(10_000)] = ""

    @property
    def helped(self) -> tuple[Tried, ...]:
        """The actions that helped."""
        return tuple(each for each in self.tried if each.outcome is Attempt.HELPED)

    @property
    def failed(self) -> tuple[Tried, ...]:
        """The actions that did not help, or made it worse."""
        return tuple(each for each in self.tried if each.outcome in {Attempt.CHANGED_NOTHING, Attempt.MADE_WORSE})


@dataclass(frozen=True, slots=True)
class Relearnt:
    """What it has come to that a person took back or corrected what was learnt.

    Attributes:
        incident: as it was, or as it is remembered now.
        gone, new: causes of runbooks of experience of its target that are not in use any more, or are from now on.
    """

    incident: PastIncident
    gone: tuple[str, ...] = ()
    new: tuple[str, ...] = ()


def _kind(value: object) -> type:
    # A whole number may come as one, and is the same number.
    return float if type(value) is int else type(value)


class HitKind(StrEnum):
    """What a search has found."""

    RUNBOOK = "runbook"
    INCIDENT = "incident"


@dataclass(frozen=True, slots=True)
class Hit:
    """Something that a search has found.

    Attributes:
        id: of a runbook its cause, of a past incident its id.
        score: of BM25, or of the fusion of two rankings; the higher the better. Scores of two searches cannot be compared.
        by_words, by_meaning: its place in each ranking, from 1 on; None if it is not there, or there is no such ranking.
        likeness: the cosine of the query and of what is nearest to it.
    """

    kind: HitKind
    id: str
    cause: str
    title: str
    score: float
    by_words: int | None = None
    by_meaning: int | None = None
    likeness: float | None = None

"""The data types of knowledge: runbooks with their conditions and actions, past incidents, search hits."""

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
"""The value of a fact: a number, a text or a boolean."""

CAUSE_PATTERN: Final = r"^[a-z][a-z0-9_]{0,99}$"
UNNAMED: Final = "unknown"
"""The cause of incidents that no runbook describes; no runbook may have it."""
_FIELD: Final = re.compile(r"\{([^{}]+)\}")


class Operator(StrEnum):
    """How a condition compares a fact with a value: at least, at most, equal (`is`) or not equal (`is_not`)."""

    AT_LEAST = "at_least"
    AT_MOST = "at_most"
    IS = "is"
    IS_NOT = "is_not"


@dataclass(frozen=True, slots=True)
class FactCondition:
    """A condition on the value of one fact.

    Attributes:
        fact: the dotted name of the fact, such as `errors.pct`.
        operator: how the value of the fact is compared with `value`.
        value: the number, text or boolean to compare with.
    """

    fact: str
    operator: Operator
    value: FactValue

    def holds(self, facts: Mapping[str, FactValue]) -> bool | None:
        """Return whether the condition holds for `facts`, the values of the known facts by name.

        Return None if the fact is unknown, or if its value cannot be compared by `at_least` or `at_most`.
        """
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
        """Return the condition in words, such as `errors.pct at least 5`."""
        return f"{self.fact} {self.operator.value.replace('_', ' ')} {self.value}"


@dataclass(frozen=True, slots=True)
class Expectation:
    """A condition of a runbook, and how probable the condition is with and without the runbook's cause.

    Attributes:
        likely: the probability that the condition holds if the cause is present.
        otherwise: the probability that the condition holds if the cause is absent.
    """

    condition: FactCondition
    likely: float
    otherwise: float


@dataclass(frozen=True, slots=True)
class RunbookAction:
    """An action that a runbook proposes.

    Attributes:
        action: the name of the action.
        parameters: the values of the action's parameters, by name. A placeholder `{fact}` in a text is replaced by the
            value of that fact.
        why: what the action repairs, in a sentence.
    """

    action: str
    parameters: Mapping[str, FactValue] = field(default_factory=dict)
    why: str = ""

    @property
    def needs(self) -> tuple[str, ...]:
        """The names of the facts that the parameters refer to, without repetition."""
        texts = (value for value in self.parameters.values() if isinstance(value, str))
        return tuple(dict.fromkeys(name for text in texts for name in _FIELD.findall(text)))


class Risk(StrEnum):
    """How much harm the actions of a runbook may do if the incident has another cause: low, medium or high."""

    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"


@dataclass(frozen=True, slots=True)
class Runbook:
    """The description of one cause, its signs and its repair.

    Attributes:
        cause: the name of the cause in one word, unique among the active runbooks.
        title: the title for people.
        symptoms: sentences as an engineer on call would write them, for the search.
        expects: conditions that are likely if the cause is present.
        looks: the names of the most informative probes (requests that give facts).
        actions: the actions that may repair the cause, in the order in which to try them.
        mended: conditions that hold when the cause is gone.
        risk: how much harm an action may do if the incident has another cause.
        requires: conditions that must hold if the cause is present; a false one makes the cause very improbable.
        sheds: whether the repair rejects requests on purpose (load shedding). Such a repair is rolled back later.
        prior: how often incidents have this cause, relative to the `prior` of other runbooks.
        text: Markdown for people.
        source: where the runbook comes from, such as its file; messages about the runbook name this source.
        lines: the line number of each field in the runbook's file, by the field's dotted name.
    """

    cause: str
    title: str
    symptoms: tuple[str, ...]
    expects: tuple[Expectation, ...]
    looks: tuple[str, ...]
    actions: tuple[RunbookAction, ...]
    mended: tuple[FactCondition, ...]
    risk: Risk
    prior: float = 1.0
    # An unknown condition does not change the probability.
    requires: tuple[FactCondition, ...] = ()
    # If true, rejected requests do not mean that the repair failed.
    sheds: bool = False
    text: str = ""
    source: str = ""
    lines: Mapping[str, int] = field(default_factory=dict, compare=False, repr=False)

    def line_of(self, name: str) -> int | None:
        """Return the line number of a field in the runbook's file, or of its nearest enclosing field; None if unknown.

        `name` is the dotted name of the field, such as `actions.0.why`.
        """
        while name and name not in self.lines:
            name = name.rpartition(".")[0]
        return self.lines.get(name)


class TriedActionResult(StrEnum):
    """The result of an action tried in an incident: it helped, changed nothing, made things worse, or was not done."""

    HELPED = "helped"
    CHANGED_NOTHING = "changed_nothing"
    MADE_WORSE = "made_worse"
    NOT_DONE = "not_done"


class Resolver(StrEnum):
    """The kind of actor that ended an incident: the responder, a person, or `itself` if it ended without an action."""

    RESPONDER = "responder"
    PERSON = "person"
    ITSELF = "itself"


_NO_TEXT: Final = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")


def _cleaned(value: Any) -> Any:
    """Return a text with U+FFFD for each character that a database cannot store; return any other value unchanged."""
    # The texts come from logs and may contain anything.
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


class TriedAction(_Remembered):
    """An action that was tried in an incident, its parameters by name, and its result (`outcome`)."""

    action: Annotated[str, _cut(200)]
    parameters: Annotated[Mapping[FactName, RememberedFact], Field(max_length=100)] = Field(default_factory=dict)
    outcome: TriedActionResult


class PastIncident(_Remembered):
    """A past incident, stored so that relab learns from it.

    Attributes:
        target: the service, by the name that its responder uses.
        opened_at, resolved_at: when the incident was opened, and when it ended, in microseconds since 1970.
        cause: the name of the cause, for which there may be no runbook; `unknown` if neither the responder repaired the
            incident nor a person has named the cause.
        facts: the facts known at the diagnosis, by name; if a person ended the incident, the facts before the person
            acted.
        templates: the number of lines of each log template (a message with its variable parts masked), at the time of
            `facts`.
        well: the values of facts when the incident was over and the service was healthy, by name; empty if the responder
            ended the incident.
        tried: the actions tried: those of the responder in order, then those of others in order.
        resolved_by: the kind of actor that ended the incident.
        resolver: the name of the person or process that ended the incident.
        note: a comment by a person.
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
    tried: Annotated[tuple[TriedAction, ...], Field(max_length=MAX_TRIED)] = ()
    resolved_by: Resolver
    resolver: Annotated[str, _cut(200)] = ""
    note: Annotated[str, _cut(10_000)] = ""

    @property
    def helped(self) -> tuple[TriedAction, ...]:
        """The actions that helped."""
        return tuple(each for each in self.tried if each.outcome is TriedActionResult.HELPED)

    @property
    def failed(self) -> tuple[TriedAction, ...]:
        """The actions that changed nothing or made the incident worse."""
        return tuple(
            each
            for each in self.tried
            if each.outcome in {TriedActionResult.CHANGED_NOTHING, TriedActionResult.MADE_WORSE}
        )


@dataclass(frozen=True, slots=True)
class Relearnt:
    """A past incident that was deleted or corrected, and the resulting changes of learnt runbooks.

    These are the runbooks learnt from past incidents of the same target (monitored service).

    Attributes:
        incident: the deleted incident, or the incident after the correction.
        gone: the causes whose learnt runbooks are no longer active after the change.
        new: the causes for which learnt runbooks are active only since the change.
    """

    incident: PastIncident
    gone: tuple[str, ...] = ()
    new: tuple[str, ...] = ()


def _kind(value: object) -> type:
    # An int and a float of the same value count as equal.
    return float if type(value) is int else type(value)


class HitKind(StrEnum):
    """The kind of a search hit: a runbook or a past incident."""

    RUNBOOK = "runbook"
    INCIDENT = "incident"


@dataclass(frozen=True, slots=True)
class Hit:
    """One result of a search.

    Attributes:
        kind: whether the result is a runbook or a past incident.
        id: the cause of a runbook, or the id of a past incident.
        cause: the cause of the runbook or the incident.
        title: the title to show.
        score: how well the document matches the query; higher is better. Scores of two searches cannot be compared.
        by_words: the rank in the search by words, from 1; None if this search did not find it.
        by_meaning: the rank in the search by meaning, from 1; None if this search did not find it or was not made.
        likeness: the cosine similarity of the query and the sentence of the document that is nearest to it; None if
            `by_meaning` is None.
    """

    kind: HitKind
    id: str
    cause: str
    title: str
    score: float
    by_words: int | None = None
    by_meaning: int | None = None
    likeness: float | None = None

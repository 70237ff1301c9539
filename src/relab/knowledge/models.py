"""Values of knowledge: a runbook, what it expects to be seen, and what it would have done."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

FactValue = float | str | bool
"""What a look has found: a number, a word, or whether something is so."""


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
            return (found == self.value and type(found) is type(self.value)) is (self.operator is Operator.IS)
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
        prior: how often it is the cause, relative to others.
        text: for people, Markdown.
        source: where it comes from, as messages name it.
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
    text: str = ""
    source: str = ""

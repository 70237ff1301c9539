"""Check parsed runbooks for conflicts with each other, and for content that would mislead a responder. Pure."""

from __future__ import annotations

import itertools
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from fnmatch import fnmatchcase
from typing import Final

from relab.core.yaml_source import nearest
from relab.knowledge.models import Expectation, FactCondition, Operator, Runbook

_MIN_WORDS: Final = 4
_MIN_DIFFERENCE: Final = 0.05
"""Two probabilities that differ by less than this are treated as equal: an author cannot estimate more precisely."""
_MIN_SEPARATION: Final = 0.3
_POINTS: Final = 3.0
"""A condition points to a cause if it is at least this many times as likely with the cause as without it."""


class Weight(StrEnum):
    """The severity of a remark: a runbook with an error cannot be used; a runbook with a warning can."""

    ERROR = "error"
    WARNING = "warning"


@dataclass(frozen=True, slots=True)
class Remark:
    """A mistake in a runbook's file that `lint` has found.

    Attributes:
        source: the file of the runbook.
        field: the dotted name of the field in the front matter.
        message: what is wrong.
        weight: the severity.
        line: the line number in the file; None if it is not known.
    """

    source: str
    field: str
    message: str
    weight: Weight = Weight.ERROR
    line: int | None = None

    @property
    def place(self) -> str:
        """The place as `file:line: field`, a form that editors can open."""
        line = "" if self.line is None else f":{self.line}"
        return f"{self.source}{line}: {self.field}".removesuffix(": ")


@dataclass(frozen=True, slots=True)
class Surroundings:
    """The actions and facts that the runbooks of a responder may use.

    Attributes:
        actions: the names of the actions; None: they are not known and not checked.
        looks: the names of the facts that each probe can give, by the name of the probe; `*` in a fact's name matches
            any text. None: probes and their facts are not checked.
        facts: names of facts that are known without a probe.
    """

    actions: Collection[str] | None = None
    looks: Mapping[str, Collection[str]] | None = None
    facts: Collection[str] = ()


def lint(runbooks: Sequence[Runbook], surroundings: Surroundings | None = None) -> list[Remark]:
    """Return the mistakes in runbooks, and the conflicts between them, sorted by file and line.

    `surroundings` has the names of the actions, probes and facts that exist. None: they are not known and not checked.
    """
    around = surroundings or Surroundings()
    remarks = [*_twice(runbooks)]
    for runbook in runbooks:
        remarks += _expectations(runbook)
        remarks += _requirements(runbook)
        remarks += _words(runbook)
        remarks += _repair(runbook)
        remarks += _names(runbook, around)
        remarks += _facts(runbook, around)
        remarks += _parameters(runbook, around)
    remarks += _alike(runbooks)
    lines = {runbook.source: runbook for runbook in runbooks}
    placed = [replace(remark, line=lines[remark.source].line_of(remark.field)) for remark in remarks]
    return sorted(placed, key=lambda remark: (remark.source, remark.line or 0, remark.field, remark.message))


def alike(one: Runbook, other: Runbook) -> bool:
    """Return whether no condition distinguishes the causes of two runbooks.

    A condition distinguishes them if its probabilities with the two causes differ by at least `_MIN_SEPARATION`.
    """
    expected = [{each.condition: each for each in runbook.expects} for runbook in (one, other)]
    return all(
        abs(_likely(expected[0], expected[1], condition) - _likely(expected[1], expected[0], condition))
        < _MIN_SEPARATION
        for condition in expected[0].keys() | expected[1].keys()
    )


def _likely(
    own: Mapping[FactCondition, Expectation], other: Mapping[FactCondition, Expectation], condition: FactCondition
) -> float:
    """Return the probability that a condition is true if the cause of the runbook `own` is present.

    If `own` expects the condition, the result is `likely` of that expectation. If only `other` expects it, the result
    is `otherwise` of that expectation, because the cause of `other` is assumed to be absent.

    Args:
        own: the expectations of the runbook whose cause is present, by condition.
        other: the expectations of another runbook, by condition.
        condition: the condition, which at least one of the two runbooks has.
    """
    return own[condition].likely if condition in own else other[condition].otherwise


def _twice(runbooks: Sequence[Runbook]) -> Iterator[Remark]:
    first: dict[str, Runbook] = {}
    for runbook in runbooks:
        if first.setdefault(runbook.cause, runbook) is not runbook:
            said = (
                f"{first[runbook.cause].source} has the cause {runbook.cause!r} too; only one runbook per cause is used"
            )
            yield Remark(runbook.source, "cause", said)


def _alike(runbooks: Sequence[Runbook]) -> Iterator[Remark]:
    for one, other in itertools.combinations(runbooks, 2):
        if one.cause != other.cause and alike(one, other):
            said = f"expects the same as {other.cause} ({other.source}): no observation distinguishes the two"
            yield Remark(one.source, "expects", said, Weight.WARNING)


def _expectations(runbook: Runbook) -> Iterator[Remark]:
    seen: set[FactCondition] = set()
    for index, each in enumerate(runbook.expects):
        field = f"expects.{index}"
        if each.condition in seen:
            yield Remark(runbook.source, field, f"the condition {each.condition} occurs twice")
        seen.add(each.condition)
        if _always(each.condition):
            said = f"has no information: {each.condition} always holds, because no measure is below 0"
            yield Remark(runbook.source, field, said)
        elif abs(each.likely - each.otherwise) < _MIN_DIFFERENCE:
            said = f"has no information: likely is {each.likely:g} and otherwise {each.otherwise:g}"
            yield Remark(runbook.source, field, said)
        elif each.likely < each.otherwise:
            said = f"speaks against the cause: likely is {each.likely:g}, below otherwise ({each.otherwise:g})"
            yield Remark(runbook.source, field, f"{said}; write a condition that is expected", Weight.WARNING)
    if not any(each.likely >= _POINTS * each.otherwise for each in runbook.expects):
        said = f"no condition points to the cause: none is {_POINTS:g} times as likely with the cause as without it"
        yield Remark(runbook.source, "expects", said, Weight.WARNING)


def _requirements(runbook: Runbook) -> Iterator[Remark]:
    for index, required in enumerate(runbook.requires):
        if required in runbook.requires[:index]:
            yield Remark(runbook.source, f"requires.{index}", f"the condition {required} occurs twice")
        elif _always(required):
            said = f"rules nothing out: {required} always holds, because no measure is below 0"
            yield Remark(runbook.source, f"requires.{index}", said)


def _always(condition: FactCondition) -> bool:
    return condition.operator is Operator.AT_LEAST and not isinstance(condition.value, str) and condition.value <= 0


def _words(runbook: Runbook) -> Iterator[Remark]:
    for index, symptom in enumerate(runbook.symptoms):
        if len(re.findall(r"\w+", symptom)) < _MIN_WORDS:
            said = f"{symptom!r} is too short for the search; write a sentence as an engineer on call would"
            yield Remark(runbook.source, f"symptoms.{index}", said, Weight.WARNING)
    if not runbook.text:
        yield Remark(runbook.source, "text", "is missing; write what a person should know and do", Weight.WARNING)


def _repair(runbook: Runbook) -> Iterator[Remark]:
    if not runbook.actions:
        yield Remark(runbook.source, "actions", "is missing: a responder will escalate", Weight.WARNING)
    if not runbook.mended:
        said = "is missing: nothing can show that the cause is gone"
        yield Remark(runbook.source, "mended", said, Weight.ERROR if runbook.actions else Weight.WARNING)
    tried = [(each.action, tuple(sorted(each.parameters.items(), key=str))) for each in runbook.actions]
    for index, action in enumerate(tried):
        if action in tried[:index]:
            yield Remark(runbook.source, f"actions.{index}", f"{action[0]!r} occurs twice with the same parameters")


def _names(runbook: Runbook, around: Surroundings) -> Iterator[Remark]:
    if around.actions is not None:
        for index, each in enumerate(runbook.actions):
            if each.action not in around.actions:
                said = f"there is no action {each.action!r}{_instead(each.action, around.actions)}"
                yield Remark(runbook.source, f"actions.{index}.action", said)
    if around.looks is not None:
        for index, look in enumerate(runbook.looks):
            if look not in around.looks:
                said = f"there is no look {look!r}{_instead(look, around.looks)}"
                yield Remark(runbook.source, f"looks.{index}", said)


def _facts(runbook: Runbook, around: Surroundings) -> Iterator[Remark]:
    """Yield a warning for each condition on a fact that `around` lacks, because it can never be evaluated.

    If `around.looks` is None, the facts of the probes are not known, and nothing is checked.
    """
    if around.looks is None:
        return
    given = {*around.facts, *(fact for facts in around.looks.values() for fact in facts)}
    named = [(f"expects.{number}.fact", each.condition.fact) for number, each in enumerate(runbook.expects)]
    named += [(f"requires.{number}.fact", each.fact) for number, each in enumerate(runbook.requires)]
    named += [(f"mended.{number}.fact", each.fact) for number, each in enumerate(runbook.mended)]
    for field, fact in named:
        if not _is_given(fact, given):
            said = f"no look gives the fact {fact!r}, so the condition can never be evaluated{nearest(fact, sorted(given))}"
            yield Remark(
                runbook.source,
                field,
                f"{said}; use a fact of one of the looks, or remove the condition",
                Weight.WARNING,
            )


def _instead(name: str, known: Collection[str]) -> str:
    """Return the end of an error message about an unknown name: the most similar known name, or all known names."""
    return nearest(name, sorted(known)) or f"; there are {', '.join(sorted(known)) or 'none'}"


def _parameters(runbook: Runbook, around: Surroundings) -> Iterator[Remark]:
    """Yield an error for each placeholder `{fact}` in an action's parameters whose fact is not available.

    A fact is available if a condition in the runbook's `expects` or `requires` tests it, if a probe of the runbook
    gives it, or if it is in `around.facts`. Nothing is checked if the runbook names probes and their facts are not
    known (`around.looks` is None).
    """
    if runbook.looks and around.looks is None:
        return
    given = {each.condition.fact for each in runbook.expects} | {each.fact for each in runbook.requires}
    given |= set(around.facts)
    given |= {fact for look in runbook.looks for fact in (around.looks or {}).get(look, ())}
    for index, action in enumerate(runbook.actions):
        for fact in action.needs:
            if not _is_given(fact, given):
                said = f"{{{fact}}} refers to a fact that no expectation and no look of this runbook gives"
                yield Remark(runbook.source, f"actions.{index}.parameters", f"{said}{nearest(fact, sorted(given))}")


def _is_given(fact: str, given: Iterable[str]) -> bool:
    return any(fact == each or fnmatchcase(fact, each) for each in given)

"""Find facts of an incident that deviate from their usual values, and make conditions that recognize such deviations.

Pure.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from relab.knowledge.models import FactCondition, FactValue, Operator, Runbook

_SYMPTOMS: Final = (
    "health", "errors.", "latency.", "traffic.", "flow.", "asked.", "logs.errors", "logs.lines", "pool.pending", "pool.timeouts",
)  # fmt: skip
"""Prefixes of the names of facts that users notice, or that follow from what users notice, whatever the cause is."""
_NEVER_TELLING: Final = ("route.",)
_PASSING: Final = frozenset(("uptime_s", "age_s", "version", "pid", "keys", "lines", "requests", "chunks"))
"""Last parts of the names of facts whose value differs at every probe: ages and totals."""
_ALIKE: Final = 0.5
"""Two numbers that are more similar than this are not a deviation; the same value as in `memory`."""
_WAY: Final = 1 / 3
"""The bound of a condition, as a share of the way from the usual number to that in the incident.

The next incident may be milder.
"""


@dataclass(frozen=True, slots=True)
class Deviation:
    """A fact of an incident with an unusual value.

    Attributes:
        fact: the name of the fact.
        seen: the condition that the fact equals its value in the incident.
        required: the condition that recognizes the same deviation in another incident. A learnt runbook may require
            it.
        expected: conditions that hold for the value in the incident, but for no usual value: those of the active
            runbooks, and one new condition. A learnt runbook may have them in `expects`.
        usual: a condition that holds for usual values; None if no usual value is known.
        strength: how far the value was from the usual values, 0 to 1.
        is_symptom: whether such a deviation appears in many kinds of incidents, so that it identifies no cause.
    """

    fact: str
    seen: FactCondition
    required: FactCondition
    expected: tuple[FactCondition, ...]
    usual: FactCondition | None
    strength: float
    is_symptom: bool


def deviations(
    facts: Mapping[str, FactValue],
    well: Mapping[str, FactValue],
    usual: Mapping[str, Sequence[FactValue]],
    runbooks: Sequence[Runbook] = (),
) -> list[Deviation]:
    """Return the facts of an incident whose values deviate from their usual values, the strongest deviation first.

    Args:
        facts: the facts known at a moment of the incident, by name.
        well: the values of these facts when this incident was over; they count as usual values, too.
        usual: `{name of a fact: its values when past incidents were over}`.
        runbooks: the active runbooks. A condition in them that is true for the deviating value and false for every
            usual value is added to `Deviation.expected`.
    """
    conditions: dict[str, dict[FactCondition, None]] = {}
    for runbook in runbooks:
        for condition in (*(each.condition for each in runbook.expects), *runbook.requires):
            conditions.setdefault(condition.fact, {})[condition] = None
    found = []
    for fact, value in facts.items():
        if _is_passing(fact):
            continue
        values = (*usual.get(fact, ()), *((well[fact],) if fact in well else ()))
        known = [each for each in conditions.get(fact, ()) if _is_deviation(each, facts, values)]
        made = _of_number(fact, value, values, known) if _is_number(value) else _of_word(fact, value, values, known)
        if made is not None:
            found.append(made)
    return sorted(found, key=lambda each: (-each.strength, each.fact))


def _is_passing(fact: str) -> bool:
    parts = fact.split(".")
    # `worker.1.rss_mb` is about one of several workers, and the next incident may affect another one.
    return parts[-1] in _PASSING or fact.startswith(_NEVER_TELLING) or any(part.isdecimal() for part in parts)


def _is_number(value: FactValue) -> bool:
    return not isinstance(value, bool | str)


def _is_deviation(condition: FactCondition, facts: Mapping[str, FactValue], usual: Iterable[FactValue]) -> bool:
    """Return whether a condition on one fact holds for the incident's value, but for none of the fact's usual values."""
    return condition.holds(facts) is True and not any(condition.holds({condition.fact: value}) for value in usual)


def _of_word(
    fact: str, value: FactValue, usual: Sequence[FactValue], known: Sequence[FactCondition]
) -> Deviation | None:
    if value in usual:
        return None
    # Ignore names of one thing among several, which differ by chance, and facts that exist only in incidents, unless a
    # runbook has a condition on them.
    is_name = isinstance(value, str) and any(char.isdigit() for char in value)
    if not known and (is_name or not usual):
        return None
    seen = FactCondition(fact, Operator.IS, value)
    others = list(dict.fromkeys(usual))
    is_one = len(others) == 1
    back = FactCondition(fact, Operator.IS, others[0]) if is_one else FactCondition(fact, Operator.IS_NOT, value)
    return Deviation(
        fact=fact,
        seen=seen,
        required=FactCondition(fact, Operator.IS_NOT, others[0]) if is_one else seen,
        expected=tuple(dict.fromkeys((*known, seen))),
        usual=back if others else None,
        strength=1.0 if known else 0.75,
        is_symptom=fact.startswith(_SYMPTOMS),
    )


def _of_number(
    fact: str, value: FactValue, usual: Sequence[FactValue], known: Sequence[FactCondition]
) -> Deviation | None:
    numbers = [float(each) for each in usual if _is_number(each) and math.isfinite(float(each))]
    if not numbers or isinstance(value, str) or not math.isfinite(value):
        return None
    near = min(numbers, key=lambda each: (abs(each - value), each))
    likeness = closeness(value, near)
    is_within = min(numbers) <= value <= max(numbers)
    if is_within or (likeness > _ALIKE and not known):
        return None
    rises = value > near
    bound = near + (value - near) * _WAY
    seen = FactCondition(fact, Operator.AT_LEAST if rises else Operator.AT_MOST, _rounded(bound))
    return Deviation(
        fact=fact,
        seen=FactCondition(fact, Operator.IS, _rounded(value)),
        required=seen,
        expected=tuple(dict.fromkeys((*known, seen))),
        usual=FactCondition(fact, Operator.AT_MOST if rises else Operator.AT_LEAST, _rounded(bound)),
        strength=1 - likeness / 2 if known else 1 - likeness,
        is_symptom=fact.startswith(_SYMPTOMS),
    )


def closeness(value: float, near: float) -> float:
    """Return how alike two numbers are, from 0 (far apart, or with different signs) to 1 (equal)."""
    # The same order of magnitude is what matters; the 1 keeps 0 and 0.01 near each other.
    low, high = sorted((abs(value), abs(near)))
    return (low + 1) / (high + 1) if (value >= 0) == (near >= 0) else 0.0


def _rounded(value: float) -> float:
    return float(f"{value:.4g}")

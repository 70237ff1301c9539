"""Create runbooks from incidents of unknown cause that a person resolved by an action. Pure.

With such a runbook, the responder need not wait for a person at the second incident with the same cause. The conditions
of the runbook are made from deviations: facts that differed from their usual values. Errors and slow responses deviate
in every incident, so they do not identify a cause. The runbook expects them, but requires another deviation. If there
is no other deviation, no runbook is created, because it would propose its action in any incident.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from relab.core.clock import format_time
from relab.core.json import digest
from relab.knowledge.deviations import Deviation, deviations
from relab.knowledge.models import (
    UNNAMED,
    Expectation,
    FactCondition,
    FactValue,
    Operator,
    PastIncident,
    Resolver,
    Risk,
    Runbook,
    RunbookAction,
    TriedAction,
)

PREFIX: Final = "seen_"
_MAX_REQUIRED: Final = 2
"""How many of the strongest deviations a learnt runbook requires. With more, it would also require side effects."""
_MAX_EXPECTED: Final = 12
_MAX_ACTIONS: Final = 5
_MARK_LIKELY, _MARK_OTHERWISE = 0.9, 0.05
_SYMPTOM_LIKELY, _SYMPTOM_OTHERWISE = 0.8, 0.3


@dataclass(frozen=True, slots=True)
class _Lesson:
    """An incident that a runbook can be learnt from.

    Attributes:
        incident: the past incident, which a person resolved.
        marks: deviations that distinguish the cause from other causes, the strongest first.
        symptoms: all other deviations. They also appear in incidents with other causes.
        acts: the person's actions that helped.
    """

    incident: PastIncident
    marks: tuple[Deviation, ...]
    symptoms: tuple[Deviation, ...]
    acts: tuple[TriedAction, ...]

    @property
    def required(self) -> tuple[Deviation, ...]:
        """The deviations that the new runbook requires: at most `_MAX_REQUIRED`, the strongest first.

        Only deviations in `marks` count. A deviation without a known usual value is left out, because no later probe
        could show that it is gone.
        """
        # No later probe could show that a deviation of such a fact is gone.
        return tuple(each for each in self.marks if each.usual is not None)[:_MAX_REQUIRED]

    @property
    def cause(self) -> str:
        """The name of the cause: a digest of the deviations that the new runbook requires.

        Incidents in which the same facts deviate in the same way get the same name. If a fact's value is a
        number, the name depends only on the direction of the deviation, not on the value.
        """
        signs = sorted(f"{each.fact} {each.required.operator.value} {_sign(each)}" for each in self.required)
        return PREFIX + digest(signs).removeprefix("sha256:")[:10]


def learnt_runbooks(
    incidents: Iterable[PastIncident],
    runbooks: Sequence[Runbook] = (),
    looks: Mapping[str, Collection[str]] | None = None,
) -> tuple[Runbook, ...]:
    """Return new runbooks, sorted by cause, from incidents of unknown cause that a person resolved by an action.

    Incidents are treated as having the same cause if the same facts deviated most from their usual values, in the same
    way. Each such cause gets one runbook, whose conditions recognize these deviations. A digest of the conditions is
    the name of the cause.

    Args:
        incidents: the past incidents of one target, the one that ended last first.
        runbooks: the active runbooks. Their conditions on the deviating facts are reused. A cause that already has an
            active runbook gets no new one.
        looks: the names of the facts that each probe can give, by the name of the probe. The new runbook names the
            probes that give its facts. None: no probe is known.
    """
    past = list(incidents)
    usual = usual_facts(past)
    lessons: dict[str, list[_Lesson]] = {}
    for incident in past:
        lesson = _lesson(incident, usual, runbooks, past)
        if lesson is not None:
            lessons.setdefault(lesson.cause, []).append(lesson)
    known = {runbook.cause for runbook in runbooks}
    return tuple(
        _runbook(cause, found, runbooks, looks or {}) for cause, found in sorted(lessons.items()) if cause not in known
    )


def usual_facts(incidents: Iterable[PastIncident]) -> dict[str, tuple[FactValue, ...]]:
    """Return the usual values of each fact (named value of the service, such as `errors.pct`), by the fact's name.

    A usual value is a value that the fact had at the end of one of the incidents. Each value is listed once.
    """
    found: dict[str, dict[FactValue, None]] = {}
    for incident in incidents:
        for fact, value in incident.well.items():
            found.setdefault(fact, {})[value] = None
    return {fact: tuple(values) for fact, values in found.items()}


def _lesson(
    incident: PastIncident,
    usual: Mapping[str, Sequence[FactValue]],
    runbooks: Sequence[Runbook],
    past: Sequence[PastIncident],
) -> _Lesson | None:
    # Without facts from after the incident, every fact would seem to differ.
    if incident.cause != UNNAMED or incident.resolved_by is not Resolver.PERSON or not incident.well:
        return None
    acts = incident.helped
    found = deviations(incident.facts, incident.well, usual, runbooks)
    elsewhere = [other.facts for other in past if other.cause != UNNAMED]
    marks = [each for each in found if not each.is_symptom and not _holds_in(each.required, elsewhere)]
    lesson = _Lesson(incident, tuple(marks), tuple(each for each in found if each not in marks), acts)
    return lesson if acts and lesson.required else None


def _holds_in(condition: FactCondition, moments: Iterable[Mapping[str, FactValue]]) -> bool:
    return any(condition.holds(facts) for facts in moments)


def _runbook(
    cause: str, lessons: Sequence[_Lesson], runbooks: Sequence[Runbook], looks: Mapping[str, Collection[str]]
) -> Runbook:
    latest = lessons[0]
    actions = _actions(lessons, runbooks)
    facts = {each.fact for each in latest.marks[:_MAX_EXPECTED]} | {name for each in actions for name in each.needs}
    seen = ", ".join(str(each.seen) for each in latest.required)
    return Runbook(
        cause=cause,
        title=_line(f"An unknown cause that occurred before: {seen}"),
        symptoms=(_line(f"as in incident {latest.incident.incident_id}: {seen}"),),
        expects=tuple(_expectations(latest, runbooks)),
        looks=tuple(name for name, gives in looks.items() if not facts.isdisjoint(gives)),
        actions=actions,
        mended=tuple(each.usual for each in latest.required if each.usual is not None),
        risk=Risk.MEDIUM,
        requires=tuple(each.required for each in latest.required),
        text=_text(lessons, actions),
        source=f"experience/{cause}",
    )


def _expectations(lesson: _Lesson, runbooks: Sequence[Runbook]) -> Iterator[Expectation]:
    said = [each for runbook in runbooks for each in runbook.expects]
    for likely, otherwise, group in (
        (_MARK_LIKELY, _MARK_OTHERWISE, lesson.marks),
        (_SYMPTOM_LIKELY, _SYMPTOM_OTHERWISE, lesson.symptoms),
    ):
        for condition in itertools.islice((one for each in group for one in each.expected), _MAX_EXPECTED):
            # Take `otherwise` from runbooks that have this condition: another value would change their weight.
            known = [each.otherwise for each in said if each.condition == condition]
            anyway = sum(known) / len(known) if known else otherwise
            if likely - anyway > _MARK_OTHERWISE:
                yield Expectation(condition, likely, anyway)


def _actions(lessons: Sequence[_Lesson], runbooks: Sequence[Runbook]) -> tuple[RunbookAction, ...]:
    """Convert the actions by which people resolved incidents to at most `_MAX_ACTIONS` runbook actions.

    Equal actions are returned once.

    Args:
        lessons: the incidents with the same cause, the latest first; the result has the same order.
        runbooks: the active runbooks; `placed` reuses the placeholders in their actions.
    """
    found: dict[str, RunbookAction] = {}
    for lesson in lessons:
        for act in lesson.acts:
            parameters = placed(act, lesson.incident, runbooks)
            why = f"A person resolved incident {lesson.incident.incident_id} by it."
            found.setdefault(digest([act.action, parameters]), RunbookAction(act.action, parameters, why))
    return tuple(found.values())[:_MAX_ACTIONS]


def placed(act: TriedAction, incident: PastIncident, runbooks: Sequence[Runbook]) -> dict[str, FactValue]:
    """Return the parameters of an action, by name, in the form in which a runbook can reuse them.

    A value that came from a fact is replaced by a placeholder `{fact}`: in a later incident, the fact may differ.
    Other values stay the same, but 3.0 becomes 3. A value counts as coming from a fact in two cases:
    - A runbook has the same action with a placeholder for this parameter, and the placeholder's fact has this value.
    - The value is a text with a digit, such as `worker-3`, and a fact of the incident has this value.

    Args:
        act: the action that was tried.
        incident: the incident in which it was tried.
        runbooks: runbooks that may have the same action with a placeholder `{fact}` as a parameter.
    """
    return {name: _place(act, name, value, incident, runbooks) for name, value in act.parameters.items()}


def _place(
    act: TriedAction, name: str, value: FactValue, incident: PastIncident, runbooks: Sequence[Runbook]
) -> FactValue:
    """Return an action's parameter as a runbook can reuse it: a placeholder `{fact}` if the value came from a fact.

    Any other value stays the same, but 3.0 becomes 3. The value counts as coming from a fact in two cases:
    - A runbook has the same action with a placeholder for this parameter, and the placeholder's fact has this value.
    - The value is a text with a digit, such as `worker-3`, and a fact of the incident has this value.
    """
    # The fact may differ in a later incident: for example, another worker has to be restarted.
    facts = incident.facts
    for runbook in runbooks:
        for action in runbook.actions:
            place = action.parameters.get(name) if action.action == act.action else None
            if isinstance(place, str) and place.startswith("{") and _same(facts.get(place.strip("{}")), value):
                return place
    if isinstance(value, str) and any(char.isdigit() for char in value):
        named = [fact for fact, found in facts.items() if _same(found, value)]
        # Facts that exist only during the incident come first: they name the failing part.
        named.sort(key=lambda fact: (fact in incident.well, fact))
        if named and "{" not in named[0]:
            return f"{{{named[0]}}}"
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _same(found: FactValue | None, value: FactValue) -> bool:
    if isinstance(found, bool) or isinstance(value, bool) or found is None:
        return found is value
    return _word(found) == _word(value)


def _word(value: FactValue) -> str:
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def _sign(each: Deviation) -> str:
    # Leave the value of a number out: it differs between incidents, the side of the bound does not.
    return str(each.required.value) if each.required.operator in {Operator.IS, Operator.IS_NOT} else ""


def _text(lessons: Sequence[_Lesson], actions: Sequence[RunbookAction]) -> str:
    """Return the Markdown text of a learnt runbook, so that a person can decide whether to accept the runbook.

    Args:
        lessons: the incidents from which the runbook is learnt, the latest first.
        actions: the actions that the runbook proposes.
    """
    lines = [
        "# An unknown cause that occurred before",
        "",
        "No runbook described it, and a person resolved it. This runbook was made from the facts of that incident; the cause has no name yet.",
        "",
        "## Source",
    ]
    for lesson in lessons:
        incident = lesson.incident
        acts = ", ".join(f"`{as_code(act.action)}`" for act in lesson.acts)
        person = f"`{as_code(incident.resolver)}`" if incident.resolver else "a person"
        ended = format_time(incident.resolved_at)
        lines.append(f"- Incident `{as_code(incident.incident_id)}`, resolved at {ended}: {person} executed {acts}.")
    lines += ["", "## Facts that differed from their usual values"]
    lines += [f"- `{as_code(str(each.seen))}`{_usually(each)}" for each in lessons[0].marks]
    lines += ["", "## Before you accept it", "- Name the cause, and describe what it is and what it is not."]
    lines.append(f"- State whether `{as_code(actions[0].action)}` repairs the cause, or only ends its effect on users.")
    lines.append("- Remove what differed by chance.")
    return "\n".join(lines)


def _usually(each: Deviation) -> str:
    return "; its usual value is not known" if each.usual is None else f"; usually `{as_code(str(each.usual))}`"


def as_code(text: str) -> str:
    """Return a text as one line without backquotes, so that it can be put into a Markdown code span."""
    return _line(text).replace("`", "'")


def _line(text: str) -> str:
    """Return a text as one line of a runbook: unprintable characters become blanks, and it is cut to 300 characters."""
    return "".join(char if char.isprintable() else " " for char in text)[:300]

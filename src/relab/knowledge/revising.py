"""A runbook as past incidents of its cause would have it: what mended comes before what did not. Pure.

One incident is an anecdote, so what is made here is a proposal to a person. It moves an action back only behind one that helped
where it did not, and only while that one has the better record; what was never tried stays where its author put it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from relab.core.clock import format_time
from relab.knowledge.learnt import as_code, placed
from relab.knowledge.models import Attempt, PastIncident, Runbook, RunbookAction, Tried

HEADING: Final = "## What past incidents say"
_MOST_TOLD: Final = 5
_FAILED: Final = frozenset((Attempt.CHANGED_NOTHING, Attempt.MADE_WORSE))
_SAID: Final = {
    Attempt.CHANGED_NOTHING: "changed nothing",
    Attempt.MADE_WORSE: "made it worse",
    Attempt.HELPED: "helped",
}


@dataclass(slots=True)
class _Record:
    """What came of an action so far."""

    helped: int = 0
    failed: int = 0

    @property
    def rate(self) -> float:
        """How often it helps, by the rule of succession: of what was never tried nothing is known."""
        return (self.helped + 1) / (self.helped + self.failed + 2)


def revised(runbook: Runbook, incidents: Iterable[PastIncident]) -> Runbook | None:
    """Return a runbook whose order of actions is that of experience; None if there is nothing to propose.

    Args:
        runbook: in use.
        incidents: the last that ended first; those of other causes say nothing.
    """
    telling = [each for each in incidents if each.cause == runbook.cause and _failed_before_help(each)]
    if not telling:
        return None
    actions = [*_unheard(runbook, telling), *runbook.actions]
    ordered = _ordered(actions, telling)
    if ordered == list(runbook.actions):
        return None
    return replace(runbook, actions=tuple(ordered), text=_text(runbook.text, telling))


def _failed_before_help(incident: PastIncident) -> bool:
    outcomes = [each.outcome for each in incident.tried]
    return Attempt.HELPED in outcomes and bool(_FAILED.intersection(outcomes[: outcomes.index(Attempt.HELPED)]))


def _unheard(runbook: Runbook, incidents: Sequence[PastIncident]) -> list[RunbookAction]:
    """Return what helped and the runbook does not have, each once."""
    found: list[RunbookAction] = []
    for incident in incidents:
        for act in incident.helped:
            if not any(_is(each, act) for each in (*runbook.actions, *found)):
                why = f"It helped in incident {incident.incident_id}, where what comes after it did not."
                found.append(RunbookAction(act.action, placed(act, incident, [runbook]), why))
    return found


def _ordered(actions: Sequence[RunbookAction], incidents: Sequence[PastIncident]) -> list[RunbookAction]:
    records = [_Record() for _ in actions]
    # By action, those that helped where it did not.
    better: list[set[int]] = [set() for _ in actions]
    for incident in incidents:
        helped, failed = (
            {number for act in acts if (number := _number(actions, act)) is not None}
            for acts in (incident.helped, incident.failed)
        )
        for number in helped:
            records[number].helped += 1
        for number in failed - helped:
            records[number].failed += 1
            better[number] |= helped
    order = list(range(len(actions)))
    # The last first, so that those that failed keep the order that they had among themselves.
    for number in reversed(range(len(actions))):
        before = [other for other in better[number] if records[other].rate > records[number].rate]
        behind = max((order.index(other) for other in before), default=-1)
        here = order.index(number)
        if behind > here:
            order.insert(behind + 1, number)
            del order[here]
    return [actions[number] for number in order]


def _number(actions: Sequence[RunbookAction], act: Tried) -> int | None:
    return next((number for number, each in enumerate(actions) if _is(each, act)), None)


def _is(action: RunbookAction, act: Tried) -> bool:
    """Return whether an act was this action; a parameter that stands for a fact may have been anything."""
    return action.action == act.action and all(
        act.parameters.get(name) == value
        for name, value in action.parameters.items()
        if not (isinstance(value, str) and "{" in value)
    )


def _text(text: str, incidents: Sequence[PastIncident]) -> str:
    """Return the text for people with what was met; what it tells already is not told again."""
    before, _, told = text.partition(HEADING)
    new = [_line(each) for each in incidents[:_MOST_TOLD] if f"`{as_code(each.incident_id)}`" not in told]
    section = "\n".join([HEADING, *([told.strip()] if told.strip() else []), *new])
    return f"{before.rstrip()}\n\n{section}" if before.strip() else section


def _line(incident: PastIncident) -> str:
    acts = [f"`{as_code(each.action)}` {_SAID[each.outcome]}" for each in incident.tried if each.outcome in _SAID]
    ended = format_time(incident.resolved_at)
    return f"- Incident `{as_code(incident.incident_id)}`, over at {ended}: {', '.join(acts)}."

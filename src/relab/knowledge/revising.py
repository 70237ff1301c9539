"""Propose changes of a runbook's actions from past incidents: a new order, and missing actions that helped.

Pure. One incident is weak evidence, so the result is only a proposal to a person. A failed action is moved only behind
an action that helped in the same incident, and only if the action that helped has the better success rate. An action
that was never tried keeps its place.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from relab.core.clock import format_time
from relab.knowledge.learnt import as_code, placed
from relab.knowledge.models import PastIncident, Runbook, RunbookAction, TriedAction, TriedActionResult

HEADING: Final = "## What past incidents say"
_MAX_LISTED: Final = 5
_FAILED: Final = frozenset((TriedActionResult.CHANGED_NOTHING, TriedActionResult.MADE_WORSE))
_RESULT_TEXTS: Final = {
    TriedActionResult.CHANGED_NOTHING: "changed nothing",
    TriedActionResult.MADE_WORSE: "made it worse",
    TriedActionResult.HELPED: "helped",
}


@dataclass(slots=True)
class _Record:
    """How often one action of a runbook helped or failed in past incidents."""

    helped: int = 0
    failed: int = 0

    @property
    def rate(self) -> float:
        """The estimated success rate, by the rule of succession: 0.5 for an action that was never tried."""
        return (self.helped + 1) / (self.helped + self.failed + 2)


def revised(runbook: Runbook, incidents: Iterable[PastIncident]) -> Runbook | None:
    """Return the runbook with the changes that past incidents suggest; None if they suggest no change.

    Only incidents in which an action failed before another action helped are used. Actions that helped, but are missing
    in the runbook, are added at the front. A failed action is moved behind an action that helped in the same incident
    and has a better success rate. A section of the runbook's text lists the latest incidents that were used.

    Args:
        runbook: the active runbook.
        incidents: past incidents, the one that ended last first; incidents of other causes are ignored.
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
    return TriedActionResult.HELPED in outcomes and bool(
        _FAILED.intersection(outcomes[: outcomes.index(TriedActionResult.HELPED)])
    )


def _unheard(runbook: Runbook, incidents: Sequence[PastIncident]) -> list[RunbookAction]:
    """Return the actions that helped in these incidents and are missing in the runbook, each once."""
    found: list[RunbookAction] = []
    for incident in incidents:
        for act in incident.helped:
            if not any(_is(each, act) for each in (*runbook.actions, *found)):
                why = f"It helped in incident {incident.incident_id}, where later actions of the runbook did not."
                found.append(RunbookAction(act.action, placed(act, incident, [runbook]), why))
    return found


def _ordered(actions: Sequence[RunbookAction], incidents: Sequence[PastIncident]) -> list[RunbookAction]:
    records = [_Record() for _ in actions]
    # For each action, the actions that helped in an incident in which it failed.
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
    # From the last to the first, so that failed actions keep their relative order.
    for number in reversed(range(len(actions))):
        before = [other for other in better[number] if records[other].rate > records[number].rate]
        behind = max((order.index(other) for other in before), default=-1)
        here = order.index(number)
        if behind > here:
            order.insert(behind + 1, number)
            del order[here]
    return [actions[number] for number in order]


def _number(actions: Sequence[RunbookAction], act: TriedAction) -> int | None:
    return next((number for number, each in enumerate(actions) if _is(each, act)), None)


def _is(action: RunbookAction, act: TriedAction) -> bool:
    """Return whether `act`, an action that was tried in an incident, matches the runbook's `action`.

    The names must be equal, and `act` must have all parameters of `action`. A `{fact}` placeholder matches any value.
    """
    return action.action == act.action and all(
        act.parameters.get(name) == value
        for name, value in action.parameters.items()
        if not (isinstance(value, str) and "{" in value)
    )


def _text(text: str, incidents: Sequence[PastIncident]) -> str:
    """Return a runbook's text with a section that lists the first `_MAX_LISTED` of `incidents`.

    If the text has the section already, only the incidents that the section lacks are added.
    """
    before, _, section_before = text.partition(HEADING)
    new = [_line(each) for each in incidents[:_MAX_LISTED] if f"`{as_code(each.incident_id)}`" not in section_before]
    section = "\n".join([HEADING, *([section_before.strip()] if section_before.strip() else []), *new])
    return f"{before.rstrip()}\n\n{section}" if before.strip() else section


def _line(incident: PastIncident) -> str:
    acts = [
        f"`{as_code(each.action)}` {_RESULT_TEXTS[each.outcome]}"
        for each in incident.tried
        if each.outcome in _RESULT_TEXTS
    ]
    ended = format_time(incident.resolved_at)
    return f"- Incident `{as_code(incident.incident_id)}`, over at {ended}: {', '.join(acts)}."

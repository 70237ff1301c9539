"""Derive follow-up tasks from the stored data of an incident; each names its reason. Pure."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Final

from relab.incidents.actions.records import ActionStatus, RepairResult
from relab.incidents.postmortem.models import FollowUp, IncidentRecord
from relab.incidents.postmortem.signal_events import KIND
from relab.incidents.storage.models import EventKind, IncidentOutcome
from relab.knowledge.models import UNNAMED

_LATE_S: Final = 120.0
_LONG_WAIT_S: Final = 300.0
_SURE: Final = 0.9
_US: Final = 1_000_000
_BY_A_PERSON: Final = frozenset((IncidentOutcome.CLOSED_BY_PERSON, IncidentOutcome.DISMISSED))
_FOLLOW_UPS: Final = {
    "failed": "Find out why the responder itself failed.",
    "not_undone": "Undo by hand what could not be undone, or accept it.",
    "limit_stays": "Reset the limit, or accept it.",
    "records_unknown": "Find out what others did meanwhile: the action server did not say.",
    "stood_down": "Agree on who acts if several do at once; the responder stood down.",
}
"""The text of the follow-up task for each kind of event that requires one."""


def follow_ups(case: IncidentRecord, onset_us: int) -> Iterator[FollowUp]:
    """Yield the follow-up tasks of an incident, each once, the most important first.

    Args:
        case: the stored data of the incident.
        onset_us: when the incident began, in microseconds since 1970.
    """
    found = (
        _of_the_end(case),
        _of_the_acts(case),
        _of_events(case),
        _of_changes(case),
        _of_times(case, onset_us),
    )
    yield from dict.fromkeys(itertools.chain.from_iterable(found))


def _of_the_end(case: IncidentRecord) -> Iterator[FollowUp]:
    incident = case.incident
    cause, outcome = incident.diagnosis, incident.outcome
    if outcome is None:
        yield FollowUp("Complete the incident: it is not over.", f"Its status is {incident.status.value}.")
    if outcome is IncidentOutcome.ESCALATED:
        ground = "No action of a runbook ended it; a person did."
        yield FollowUp("Write a runbook from this incident, or accept the draft.", ground)
    if outcome is IncidentOutcome.CLOSED_BY_PERSON:
        yield from _of_the_closing(case)
    if outcome is IncidentOutcome.PASSED:
        yield FollowUp(
            "Find out why it began and why it ended.", "No action of the responder is verified to be the reason."
        )
    if outcome is IncidentOutcome.DISMISSED:
        said = ", ".join(dict.fromkeys(finding.signal for finding in incident.findings[:5])) or "nothing else"
        yield FollowUp("Check whether the detectors are too strict here.", f"It was a false positive of {said}.")
    if outcome is IncidentOutcome.RESOLVED and cause is not None:
        yield FollowUp(f"Find the root cause of {cause}: the action ended the symptom only.", "It was repaired.")
    if cause == UNNAMED and outcome is not IncidentOutcome.DISMISSED:
        yield FollowUp("Identify the cause.", "The diagnosis was unknown.")
    elif cause is not None and incident.probability is not None and incident.probability < _SURE:
        ground = f"The probability of {cause} was {incident.probability:.2f}."
        yield FollowUp("Find a probe that would have distinguished the causes.", ground)


def _of_the_closing(case: IncidentRecord) -> Iterator[FollowUp]:
    ground = "A person closed it as repaired, and the responder has verified nothing."
    yield FollowUp("Write a runbook if the responder can do this repair.", ground)
    named = next((event.content.get("named_cause") for event in case.events if event.is_terminal), None)
    diagnosis = case.incident.diagnosis
    if isinstance(named, str) and diagnosis not in {None, UNNAMED, named}:
        yield FollowUp(f"Check the runbook of {diagnosis}.", f"The person who closed it names {named} as the cause.")


def _of_the_acts(case: IncidentRecord) -> Iterator[FollowUp]:
    for act in case.actions:
        if act.effect is RepairResult.WORSE:
            ground = f"It was worse after {act.action} for {act.cause}."
            yield FollowUp(f"Remove {act.action} from the runbook of {act.cause}, or restrict it.", ground)
        elif act.effect is RepairResult.FAILED:
            ground = f"Verification did not confirm that {act.action} ended {act.cause}."
            yield FollowUp(f"Check the runbook of {act.cause}.", ground)
        elif act.status is ActionStatus.REFUSED:
            yield FollowUp(f"Check whether {act.action} should be allowed here.", f"It was refused: {act.error or ''}")
        elif act.status is ActionStatus.FAILED:
            yield FollowUp(
                f"Repair {act.action} itself.", f"It did not succeed: {act.error or 'the reason is unknown'}"
            )
        elif act.status is ActionStatus.ASKED:
            yield FollowUp(f"Find out whether {act.action} was done.", "It was requested, and no answer was recorded.")


def _of_events(case: IncidentRecord) -> Iterator[FollowUp]:
    first = {event.kind: event for event in reversed(case.events)}
    for kind, what in _FOLLOW_UPS.items():
        if kind in first:
            yield FollowUp(what, first[kind].message)
    if case.incident.outcome is not None and KIND not in first:
        yield FollowUp("Find out why no signals were stored.", "The timeline has none.")


def _of_changes(case: IncidentRecord) -> Iterator[FollowUp]:
    facts = case.incident.symptoms
    change = facts.get("settings.recent_change")
    if isinstance(change, str) and change != "none":
        names, by = facts.get("settings.recent_change.names"), facts.get("settings.recent_change.by")
        ground = f"{names or change} was changed by {by or 'an unknown user'}."
        yield FollowUp("Check whether the change of settings should have been tested first.", ground)


def _of_times(case: IncidentRecord, onset_us: int) -> Iterator[FollowUp]:
    late_s = (case.incident.opened_at - onset_us) / _US
    if late_s > _LATE_S:
        yield FollowUp("Find out how it could be detected sooner.", f"It was detected {late_s:.0f} s after its onset.")
    closed_us = case.incident.closed_at if case.incident.outcome in _BY_A_PERSON else None
    withdrawn = {
        str(event.content.get("approval_id")) for event in case.events if event.kind == EventKind.APPROVAL_WITHDRAWN
    }
    for request, decision in case.approvals:
        if decision is None and closed_us is not None and closed_us < request.expires_at:
            # The person who ended the incident did not need the action.
            continue
        # A withdrawn request expires when it is withdrawn.
        is_short = (request.expires_at - request.asked_at) / _US <= _LONG_WAIT_S
        if decision is None and is_short and request.approval_id in withdrawn:
            # People had hardly time to answer.
            continue
        if decision is None:
            ground = f"Nobody answered the approval request for {request.plan.action}."
            yield FollowUp("Check who gets approval requests, and whether this action needs approval.", ground)
        elif (decision.decided_at - request.asked_at) / _US > _LONG_WAIT_S:
            waited_s = (decision.decided_at - request.asked_at) / _US
            ground = f"{request.plan.action} waited {waited_s:.0f} s for approval."
            yield FollowUp("Check who gets approval requests, and whether this action needs approval.", ground)

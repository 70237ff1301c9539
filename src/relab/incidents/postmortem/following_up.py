"""Derive follow-up tasks from the stored data of an incident; each names its reason. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from relab.incidents.acting.records import ActStatus, Effect
from relab.incidents.postmortem.models import Case, FollowUp
from relab.incidents.postmortem.recording import KIND
from relab.incidents.storage.models import Outcome
from relab.knowledge.models import UNNAMED

_LATE_S: Final = 120.0
_LONG_WAIT_S: Final = 300.0
_SURE: Final = 0.9
_US: Final = 1_000_000
_TOLD: Final = {
    "failed": "Find out why the responder itself failed.",
    "not_undone": "Take back by hand what could not be undone, or say that it may stay.",
    "limit_stays": "Set the limit back, or say that it may stay.",
    "records_unknown": "Find out what others did meanwhile: the action server did not say.",
    "stood_down": "Say who acts when several do at once; the responder stood down.",
}
"""Kinds of events that require a follow-up, and its text."""


def follow_ups(case: Case, onset_us: int) -> Iterator[FollowUp]:
    """Yield the follow-up tasks, the most important first."""
    yield from _of_the_end(case)
    yield from _of_the_acts(case)
    yield from _of_events(case)
    yield from _of_changes(case)
    yield from _of_times(case, onset_us)


def _of_the_end(case: Case) -> Iterator[FollowUp]:
    incident = case.incident
    cause, outcome = incident.diagnosis, incident.outcome
    if outcome is None:
        yield FollowUp("See it through: it is not over.", f"Its status is {incident.status.value}.")
    if outcome is Outcome.ESCALATED:
        ground = "No runbook's act ended it; a person did."
        yield FollowUp("Write a runbook of what was seen and done, or accept the draft of one.", ground)
    if outcome is Outcome.PASSED:
        yield FollowUp(
            "Find out why it began and why it ended.", "No act of the responder is verified to be the reason."
        )
    if outcome is Outcome.DISMISSED:
        said = ", ".join(dict.fromkeys(finding.signal for finding in incident.findings[:5])) or "nothing else"
        yield FollowUp("See whether the detectors are too strict here.", f"It was none, and was found by {said}.")
    if outcome is Outcome.RESOLVED and cause is not None:
        yield FollowUp(f"Find out what brought {cause} about: the act ended it, not its reason.", "It was mended.")
    if cause == UNNAMED and outcome is not Outcome.DISMISSED:
        yield FollowUp("Give the cause a name.", "The diagnosis was unknown.")
    elif cause is not None and incident.probability is not None and incident.probability < _SURE:
        ground = f"The probability of {cause} was {incident.probability:.2f}."
        yield FollowUp("See which look would have told the causes apart.", ground)


def _of_the_acts(case: Case) -> Iterator[FollowUp]:
    for act in case.acts:
        if act.effect is Effect.WORSE:
            ground = f"It was worse after {act.action} for {act.cause}."
            yield FollowUp(f"Take {act.action} out of the runbook of {act.cause}, or say when it holds.", ground)
        elif act.effect is Effect.FAILED:
            ground = f"Verification did not confirm that {act.action} ended {act.cause}."
            yield FollowUp(f"Check the runbook of {act.cause}.", ground)
        elif act.status is ActStatus.REFUSED:
            yield FollowUp(f"See whether {act.action} should be allowed here.", f"It was refused: {act.error or ''}")
        elif act.status is ActStatus.FAILED:
            yield FollowUp(f"Mend {act.action} itself.", f"It did not succeed: {act.error or 'nobody knows why'}")
        elif act.status is ActStatus.ASKED:
            yield FollowUp(f"Find out how far {act.action} came.", "It was asked for, and no answer was written down.")


def _of_events(case: Case) -> Iterator[FollowUp]:
    told = {event.kind: event for event in reversed(case.events)}
    for kind, what in _TOLD.items():
        if kind in told:
            yield FollowUp(what, told[kind].message)
    if case.incident.outcome is not None and KIND not in told:
        yield FollowUp("See why no signals were kept.", "The timeline has none.")


def _of_changes(case: Case) -> Iterator[FollowUp]:
    facts = case.incident.symptoms
    change = facts.get("settings.recent_change")
    if isinstance(change, str) and change != "none":
        names, by = facts.get("settings.recent_change.names"), facts.get("settings.recent_change.by")
        ground = f"Changed was {names or change}, by {by or 'somebody'}."
        yield FollowUp("See whether the change of settings should have been tried on a part first.", ground)


def _of_times(case: Case, onset_us: int) -> Iterator[FollowUp]:
    late_s = (case.incident.opened_at - onset_us) / _US
    if late_s > _LATE_S:
        yield FollowUp("See how it could be detected sooner.", f"It was detected {late_s:.0f} s after its onset.")
    for request, decision in case.approvals:
        if decision is None:
            ground = f"Nobody answered whether {request.plan.action} may be done."
            yield FollowUp("See who is asked, and whether this may be done without asking.", ground)
        elif (decision.decided_at - request.asked_at) / _US > _LONG_WAIT_S:
            waited_s = (decision.decided_at - request.asked_at) / _US
            ground = f"{request.plan.action} waited {waited_s:.0f} s for an answer."
            yield FollowUp("See who is asked, and whether this may be done without asking.", ground)

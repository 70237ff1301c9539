"""Turn events of an incident's timeline into notices: choose the events that people need, and write the texts. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from relab.incidents.actions.approvals import ApprovalRequest
from relab.incidents.briefing import DIAGNOSED, alert_details, diagnosis_details, question_details
from relab.incidents.models import Severity
from relab.incidents.notices.models import Notice, NoticeKind
from relab.incidents.storage.models import Incident, IncidentStatus, TimelineEvent

_MAX_FINDINGS: Final = 5
_CLOSED: Final = {
    "resolved": "Incident resolved",
    "escalated": "Incident ended by a person",
    "passed": "Incident passed",
    "dismissed": "Incident dismissed",
    "closed_by_person": "Incident closed by a person",
}
_BAD_EFFECTS: Final = frozenset(("failed", "worse"))


@dataclass(frozen=True, slots=True)
class NoticeContext:
    """The data that a notice about a timeline event needs besides the event itself.

    Attributes:
        incident: the current state of the incident.
        earlier: the content of the last `diagnosed` event before that event; None if there is none.
        alerts: contents of the first alerts of the incident, for an `opened` event.
        question: the approval request that the event is about, if a person can still decide it; else None.
        public_url: the address at which people reach relab, without a trailing slash; None if it is unknown.
        answers_slack: whether people may answer notices by commands in Slack.
    """

    incident: Incident
    earlier: Mapping[str, Any] | None = None
    alerts: tuple[Mapping[str, Any], ...] = ()
    question: ApprovalRequest | None = None
    public_url: str | None = None
    answers_slack: bool = False


@dataclass(frozen=True, slots=True)
class _Words:
    """The parts of a notice that depend on the kind of its timeline event; `Notice` explains the fields."""

    kind: NoticeKind
    title: str
    headline: str
    details: tuple[tuple[str, str], ...] = ()
    commands: tuple[str, ...] = ()
    wants_person: bool = False
    is_taken: bool = False


def notice_of(event: TimelineEvent, context: NoticeContext) -> Notice | None:
    """Return the notice about an event; None if people need no notice of it.

    People need no notice of most kinds of events. Of some kinds they need one only if the event brings news: of a
    diagnosis, for example, only if its cause differs from that of the last diagnosis.
    """
    reader = _READERS.get(event.kind)
    words = None if reader is None else reader(event, context)
    if words is None:
        return None
    incident = context.incident
    url = None if context.public_url is None else f"{context.public_url}/agent/incidents/{incident.incident_id}"
    return Notice(
        incident_id=incident.incident_id,
        seq=event.seq,
        kind=words.kind,
        at_us=event.at,
        target=incident.target,
        severity=Severity.CRITICAL if words.kind is NoticeKind.ESCALATED else incident.severity,
        title=words.title,
        headline=words.headline,
        details=words.details,
        commands=words.commands,
        wants_person=words.wants_person,
        is_taken=words.is_taken,
        is_over=words.kind is NoticeKind.CLOSED,
        is_stale=incident.is_over and words.kind is not NoticeKind.CLOSED,
        url=url,
    )


def _opened(event: TimelineEvent, context: NoticeContext) -> _Words:
    found = event.content.get("findings")
    said = [item.get("detail") for item in (found if isinstance(found, list) else []) if isinstance(item, dict)]
    details = [("Found", text) for text in said if isinstance(text, str) and text and text != event.message]
    lines = (*details[:_MAX_FINDINGS], *alert_details(context.alerts))
    return _Words(NoticeKind.OPENED, "Incident opened", event.message, lines)


def _diagnosed(event: TimelineEvent, context: NoticeContext) -> _Words | None:
    cause = _cause(event.content)
    # A diagnosis is repeated after each action; notify only if its cause has changed.
    if cause is not None and context.earlier is not None and _cause(context.earlier) == cause:
        return None
    return _Words(NoticeKind.DIAGNOSED, "Diagnosed", event.message, diagnosis_details(event.content))


def _approval_wanted(_event: TimelineEvent, context: NoticeContext) -> _Words | None:
    asked = context.question
    if asked is None:
        return None
    plan, approval_id = asked.plan, asked.approval_id
    path = f"{context.public_url or ''}/agent/approvals/{approval_id}"
    commands = [f"lab incidents approve {approval_id}", f'POST {path} {{"approved": true}}']
    if context.answers_slack:
        commands.insert(0, f"/relab approve {approval_id}")
    return _Words(
        NoticeKind.APPROVAL_WANTED,
        "Approval needed",
        f"{plan.action} on {plan.target} waits for approval. The probable cause is {plan.cause}.",
        question_details(asked, context.earlier),
        tuple(commands),
        wants_person=True,
    )


def _decided(event: TimelineEvent, _context: NoticeContext) -> _Words:
    decision = event.content.get("decision")
    note = decision.get("note") if isinstance(decision, dict) else None
    is_approved = isinstance(decision, dict) and decision.get("approved") is True
    details = (("Note", note),) if isinstance(note, str) and note else ()
    title = "Approved" if is_approved else "Rejected"
    # A person who rejects a plan takes over the incident; one who approves it leaves the incident to the responder.
    return _Words(NoticeKind.DECIDED, title, event.message, details, is_taken=not is_approved)


def _act_finished(event: TimelineEvent, _context: NoticeContext) -> _Words:
    error = event.content.get("error")
    details = (("Error", error),) if isinstance(error, str) and error else ()
    titles = {"succeeded": "Action done", "undone": "Action undone", "refused": "Action refused"}
    return _Words(
        NoticeKind.ACTED, titles.get(str(event.content.get("status")), "Action failed"), event.message, details
    )


def _act_effect(event: TimelineEvent, _context: NoticeContext) -> _Words | None:
    effect = event.content.get("effect")
    if effect not in _BAD_EFFECTS:
        # The notice of the closing covers an action that helped.
        return None
    return _Words(
        NoticeKind.ACTED, "Worse after the action" if effect == "worse" else "Action did not help", event.message
    )


def _not_undone(event: TimelineEvent, _context: NoticeContext) -> _Words:
    return _Words(NoticeKind.ACTED, "Rollback failed", event.message)


def _failed(event: TimelineEvent, context: NoticeContext) -> _Words:
    is_given_up = context.incident.status is IncidentStatus.ESCALATED
    kind = NoticeKind.ESCALATED if is_given_up else NoticeKind.FAILED
    title = "A person is needed: the responder keeps failing" if is_given_up else "The responder has failed and retries"
    return _Words(kind, title, event.message, wants_person=is_given_up)


def _escalated(event: TimelineEvent, context: NoticeContext) -> _Words:
    incident = context.incident
    thought = incident.diagnosis
    likeliest = (
        () if thought is None else (("Probable cause", f"{thought} (probability {incident.probability or 0.0:.2f})"),)
    )
    details = (*likeliest, *diagnosis_details(context.earlier))
    return _Words(NoticeKind.ESCALATED, "A person is needed", event.message, details, wants_person=True)


def _worsened(event: TimelineEvent, context: NoticeContext) -> _Words:
    return _outage(event, context, "The outage is getting worse")


def _recurred(event: TimelineEvent, context: NoticeContext) -> _Words:
    return _outage(event, context, "The outage has recurred")


def _outage(event: TimelineEvent, context: NoticeContext, title: str) -> _Words:
    # While the responder works on the incident, notify people without calling them.
    is_theirs = context.incident.status in {IncidentStatus.ESCALATED, IncidentStatus.WAITING_APPROVAL}
    kind = NoticeKind.ESCALATED if is_theirs else NoticeKind.OUTAGE
    return _Words(kind, title, event.message, wants_person=is_theirs)


def _closed(event: TimelineEvent, _context: NoticeContext) -> _Words:
    title = _CLOSED.get(str(event.content.get("outcome")), "Incident closed")
    return _Words(NoticeKind.CLOSED, title, event.message)


def _cause(content: Mapping[str, Any]) -> str | None:
    candidates = content.get("candidates")
    best = candidates[0] if isinstance(candidates, list) and candidates else None
    cause = best.get("cause") if isinstance(best, dict) else None
    return cause if isinstance(cause, str) else None


_READERS: Final = {
    "opened": _opened,
    DIAGNOSED: _diagnosed,
    "approval_asked": _approval_wanted,
    "approval_decided": _decided,
    "act_finished": _act_finished,
    "act_effect": _act_effect,
    "not_undone": _not_undone,
    "failed": _failed,
    "escalated": _escalated,
    "worsened": _worsened,
    "recurred": _recurred,
    "closed": _closed,
}

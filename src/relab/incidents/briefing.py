"""Build the briefing for a person who decides on an action of an incident. Pure functions.

It has the evidence for the diagnosed cause, other possible causes, the action's blast radius and its rollback.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from relab.core.clock import format_time
from relab.core.json import canonical_json
from relab.incidents.actions.approvals import MAX_UNANSWERED, ApprovalRequest
from relab.incidents.storage.models import EventKind, TimelineEvent
from relab.incidents.storage.text_limits import cut

DIAGNOSED: Final = "diagnosed"
_MAX_EVIDENCE: Final = 5
_MAX_OTHERS: Final = 3
_MAX_ALERTS: Final = 5
_MIN_PROBABILITY: Final = 0.005
_MAX_CHARACTERS: Final = 300
_IF_UNANSWERED: Final = (
    f"Nothing is done. An expired request is made again, {MAX_UNANSWERED} times in all; then the incident is escalated."
)

Pairs = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Briefing:
    """The information about an incident that a person needs for a decision, as pairs of a label and a text.

    Attributes:
        details: the evidence of the last diagnosis, other possible causes, and the texts of alerts.
        questions: `(approval request, details)` of each request that waits for a decision.
    """

    details: Pairs
    questions: tuple[tuple[ApprovalRequest, Pairs], ...]


def brief(events: Sequence[TimelineEvent], waiting: Iterable[ApprovalRequest]) -> Briefing:
    """Return the briefing about an incident for a person who decides on its actions.

    Args:
        events: the whole timeline of the incident.
        waiting: the approval requests of the incident that wait for a decision.
    """
    details = (*diagnosis_details(last_diagnosis(events)), *alert_details(alerts_of(events)))
    asked = ((each, question_details(each, diagnosis_before(events, each.approval_id))) for each in waiting)
    return Briefing(details, tuple(asked))


def diagnosis_details(diagnosis: Mapping[str, Any] | None) -> Pairs:
    """Return the evidence and the other possible causes of a diagnosis, as pairs of a label and a text.

    Args:
        diagnosis: the content of a `diagnosed` event; missing parts are left out, and None gives no pairs.
    """
    return (*(("Evidence", text) for text in _evidence(diagnosis)), *_others(diagnosis))


def question_details(request: ApprovalRequest, diagnosis: Mapping[str, Any] | None) -> Pairs:
    """Return the details of an approval request, as pairs of a label and a text.

    Args:
        request: the approval request.
        diagnosis: the content of the `diagnosed` event that led to the request; None if there was no such event.
    """
    plan = request.plan
    undo = f"by {plan.undo}" if plan.undo else "not possible"
    found = (
        ("Action", f"{plan.action} {canonical_json(plan.parameters)} (class {plan.action_class})"),
        ("Probable cause", f"{plan.cause} (probability {plan.probability:.2f})"),
        *diagnosis_details(diagnosis),
        ("Blast radius", plan.blast_radius.value),
        ("Rollback", undo),
        ("Reason", plan.why),
        ("Expected effect", plan.effect),
        ("Approval is needed because", request.ground),
        ("Valid until", format_time(request.expires_at)),
        ("If no person answers", _IF_UNANSWERED),
    )
    return tuple((name, text) for name, text in found if text)


def alert_details(alerts: Iterable[Mapping[str, Any]]) -> Pairs:
    """Return descriptions and runbook addresses in alerts, as pairs of a label and a text: the first 10 different ones.

    Args:
        alerts: the contents of `alert` events.
    """
    found: dict[tuple[str, str], None] = {}
    for content in alerts:
        alert = content.get("alert")
        annotations = alert.get("annotations") if isinstance(alert, Mapping) else None
        if not isinstance(annotations, Mapping):
            continue
        for key, name in (("description", "Alert"), ("runbook_url", "Runbook of the alert")):
            text = annotations.get(key)
            if isinstance(text, str) and text.strip():
                found[name, cut(text.strip(), _MAX_CHARACTERS)] = None
    return tuple(found)[: 2 * _MAX_ALERTS]


def last_diagnosis(events: Iterable[TimelineEvent]) -> Mapping[str, Any] | None:
    """Return the content of the last `diagnosed` event of a timeline; None if there is none."""
    found = [event.content for event in events if event.kind == DIAGNOSED]
    return found[-1] if found else None


def diagnosis_before(events: Iterable[TimelineEvent], approval_id: str) -> Mapping[str, Any] | None:
    """Return the content of the last `diagnosed` event before the approval request `approval_id`.

    Return None if there is no such event. If the timeline does not have this request, return the content of its last
    `diagnosed` event.
    """
    found = None
    for event in events:
        if event.kind == DIAGNOSED:
            found = event.content
        elif (
            event.kind == EventKind.APPROVAL_ASKED
            and event.content.get("request", {}).get("approval_id") == approval_id
        ):
            break
    return found


def alerts_of(events: Iterable[TimelineEvent]) -> list[Mapping[str, Any]]:
    """Return the contents of the `alert` events in a timeline."""
    return [event.content for event in events if event.kind == EventKind.ALERT]


def _evidence(diagnosis: Mapping[str, Any] | None) -> Iterator[str]:
    evidence = None if diagnosis is None else diagnosis.get("evidence")
    rows = [row for row in (evidence if isinstance(evidence, list) else []) if isinstance(row, Mapping)]
    for row in rows[:_MAX_EVIDENCE]:
        fact, request, verbatim = (row.get(name) for name in ("fact", "request", "verbatim"))
        if isinstance(fact, str):
            quoted = f" {verbatim!r}" if isinstance(verbatim, str) and verbatim else ""
            source = f" ({request})" if isinstance(request, str) and request else ""
            yield cut(f"{fact} = {row.get('value')}:{quoted}{source}", _MAX_CHARACTERS)
    if len(rows) > _MAX_EVIDENCE:
        yield f"and {len(rows) - _MAX_EVIDENCE} more"


def _others(diagnosis: Mapping[str, Any] | None) -> Iterator[tuple[str, str]]:
    candidates = None if diagnosis is None else diagnosis.get("candidates")
    rows = [row for row in (candidates if isinstance(candidates, list) else []) if isinstance(row, Mapping)][1:]
    others = [
        f"{row['cause']} (probability {row['probability']:.2f})"
        for row in rows
        if isinstance(row.get("cause"), str)
        and isinstance(row.get("probability"), int | float)
        and row["probability"] >= _MIN_PROBABILITY
    ]
    if others:
        yield "Other possible causes", ", ".join(others[:_MAX_OTHERS])

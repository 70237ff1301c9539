"""Composing notices: which timeline events cause one, and its text."""

from __future__ import annotations

from typing import Any

import pytest

from relab.incidents.models import Severity
from relab.incidents.notices.composition import NoticeContext, notice_of
from relab.incidents.notices.models import Notice, NoticeKind
from relab.incidents.storage.models import Incident, IncidentOutcome, IncidentStatus, Phase, TimelineEvent
from support.incidents.acts import NOW_US
from support.incidents.logs import question


def incident(**more: Any) -> Incident:
    given = {
        "incident_id": "i1",
        "target": "shop",
        "title": "Errors",
        "severity": Severity.DEGRADED,
        "status": IncidentStatus.OPEN,
        "phase": Phase.DETECT,
        "outcome": None,
        "diagnosis": "database_lock",
        "probability": 0.97,
        "recommendation": "",
        "opened_at": NOW_US,
        "updated_at": NOW_US,
        "closed_at": None,
        "last_seq": 9,
        "findings": (),
        "symptoms": {},
        "plan": None,
        "content": {},
        **more,
    }
    return Incident.model_validate(given)


def told(kind: str, content: dict[str, Any] | None = None, **context: Any) -> Notice | None:
    event = TimelineEvent(
        incident_id="i1", seq=7, kind=kind, at=NOW_US, message="It is so.", content=content or {}, evidence=()
    )
    return notice_of(event, NoticeContext(context.pop("incident", incident()), **context))


def notice(kind: str, content: dict[str, Any] | None = None, **context: Any) -> Notice:
    found = told(kind, content, **context)
    assert found is not None
    return found


def thinks(cause: str) -> dict[str, Any]:
    return {"candidates": [{"cause": cause, "probability": 0.9}]}


@pytest.mark.parametrize(
    "kind",
    ["finding", "phase", "status", "gathered", "thought", "planned", "act_asked", "verified", "stood_down", "alert",
     "paused", "signals", "drafted", "notice_lost", "of_tomorrow"],
)  # fmt: skip
def test_most_events_cause_no_notice(kind: str) -> None:
    assert told(kind) is None


def test_opening_lists_each_finding_once() -> None:
    findings = [{"detail": "It is so."}, {"detail": "P95 is 900 ms."}, {"detail": 3}, "odd", *({"detail": "x"},) * 9]

    found = notice("opened", {"findings": findings})

    assert found.kind == NoticeKind.OPENED
    assert found.headline == "It is so."
    assert found.key == "i1:7"
    assert found.details == (("Found", "P95 is 900 ms."), *(("Found", "x"),) * 4)
    assert notice("opened", {"findings": "cut"}).details == ()


def test_diagnosis_is_notified_again_only_if_it_changed() -> None:
    assert notice("diagnosed", thinks("database_lock")).kind is NoticeKind.DIAGNOSED
    assert told("diagnosed", thinks("database_lock"), earlier=thinks("database_lock")) is None
    assert told("diagnosed", thinks("cache_down"), earlier=thinks("database_lock")) is not None
    assert told("diagnosed", {"candidates": "cut"}, earlier={}) is not None


def test_worsening_after_escalation_pages_a_person() -> None:
    found = notice("worsened", incident=incident(status=IncidentStatus.ESCALATED))

    assert found.kind == NoticeKind.ESCALATED
    assert found.headline == "It is so."
    assert found.wants_person is True


@pytest.mark.parametrize("kind", ["worsened", "recurred"])
def test_outage_pages_a_person_only_if_the_responder_is_not_working_on_it(kind: str) -> None:
    theirs = notice(kind, incident=incident(status=IncidentStatus.WAITING_APPROVAL))
    ours = notice(kind, incident=incident(status=IncidentStatus.OPEN))

    assert theirs.kind == NoticeKind.ESCALATED
    assert theirs.wants_person is True
    assert ours.kind == NoticeKind.OUTAGE
    assert ours.wants_person is False


def test_approval_request_has_the_plan_and_the_commands() -> None:
    found = notice("approval_asked", question=question("i1", "i1.1"), public_url="https://relab.example")

    details = dict(found.details)
    assert found.wants_person
    assert "restart-worker" in found.headline
    assert details["Action"] == 'restart-worker {"worker":1} (class restart)'
    assert details["Blast radius"] == "some_requests"
    assert details["Valid until"].endswith("Z")
    assert found.commands == (
        "lab incidents approve i1.1",
        'POST https://relab.example/agent/approvals/i1.1 {"approved": true}',
    )
    assert found.url == "https://relab.example/agent/incidents/i1"


def test_slack_commands_are_listed_if_slack_is_enabled() -> None:
    found = notice("approval_asked", question=question("i1", "i1.1"), answers_slack=True)

    assert found.commands[0] == "/relab approve i1.1"
    assert found.commands[-1] == 'POST /agent/approvals/i1.1 {"approved": true}'
    assert found.url is None


def test_expired_approval_request_is_not_notified() -> None:
    assert told("approval_asked", question=None) is None


def test_rejection_takes_over_the_incident_and_approval_does_not() -> None:
    rejected = notice("approval_decided", {"decision": {"approved": False, "note": "Not now."}})
    approved = notice("approval_decided", {"decision": {"approved": True, "note": ""}})

    assert rejected.title == "Rejected"
    assert rejected.is_taken is True
    assert rejected.details == (("Note", "Not now."),)
    assert approved.title == "Approved"
    assert approved.is_taken is False
    assert approved.details == ()


@pytest.mark.parametrize(
    ("status", "title"),
    [
        ("succeeded", "Action done"),
        ("failed", "Action failed"),
        ("undone", "Action undone"),
        ("refused", "Action refused"),
    ],
)
def test_actions_are_notified_with_their_results(status: str, title: str) -> None:
    found = notice("act_finished", {"status": status, "error": "No worker."})

    assert found.title == title
    assert found.kind == NoticeKind.ACTED
    assert found.details == (("Error", "No worker."),)


def test_ineffective_action_is_notified_and_success_is_part_of_the_end() -> None:
    assert notice("act_effect", {"effect": "worse"}).title == "Worse after the action"
    assert notice("act_effect", {"effect": "failed"}).title == "Action did not help"
    assert told("act_effect", {"effect": "verified"}) is None
    assert notice("not_undone").title == "Rollback failed"


def test_escalation_needs_a_person_and_is_critical() -> None:
    found = notice("escalated")

    assert found.wants_person is True
    assert found.severity == Severity.CRITICAL
    assert found.details == (("Probable cause", "database_lock (probability 0.97)"),)


def test_failed_responder_needs_a_person_once_it_gives_up() -> None:
    trying = notice("failed")
    given_up = notice("failed", incident=incident(status=IncidentStatus.ESCALATED))

    assert trying.kind == NoticeKind.FAILED
    assert trying.wants_person is False
    assert given_up.kind == NoticeKind.ESCALATED
    assert given_up.wants_person is True
    assert given_up.severity == Severity.CRITICAL


@pytest.mark.parametrize("outcome", list(IncidentOutcome))
def test_each_outcome_of_a_closed_incident_is_notified(outcome: IncidentOutcome) -> None:
    found = notice("closed", {"outcome": outcome.value}, incident=incident(status=outcome.status, closed_at=NOW_US))

    assert found.is_over is True
    assert found.is_stale is False
    assert found.title != "Incident closed"


def test_notice_after_the_incident_closed_is_stale() -> None:
    assert notice("escalated", incident=incident(status=IncidentStatus.CLOSED, closed_at=NOW_US)).is_stale

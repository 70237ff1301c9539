"""Which events people are told of, and in what words."""

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
def test_of_most_that_happens_nobody_needs_to_know(kind: str) -> None:
    assert told(kind) is None


def test_an_opening_tells_what_was_found_once() -> None:
    findings = [{"detail": "It is so."}, {"detail": "P95 is 900 ms."}, {"detail": 3}, "odd", *({"detail": "x"},) * 9]

    found = notice("opened", {"findings": findings})

    assert found.kind == NoticeKind.OPENED
    assert found.headline == "It is so."
    assert found.key == "i1:7"
    assert found.details == (("Found", "P95 is 900 ms."), *(("Found", "x"),) * 4)
    assert notice("opened", {"findings": "cut"}).details == ()


def test_a_diagnosis_is_told_again_only_if_it_is_another_one() -> None:
    assert notice("diagnosed", thinks("database_lock")).kind is NoticeKind.DIAGNOSED
    assert told("diagnosed", thinks("database_lock"), earlier=thinks("database_lock")) is None
    assert told("diagnosed", thinks("cache_down"), earlier=thinks("database_lock")) is not None
    assert told("diagnosed", {"candidates": "cut"}, earlier={}) is not None


def test_what_becomes_worse_while_people_have_it_wants_one_of_them() -> None:
    found = notice("worsened", incident=incident(status=IncidentStatus.ESCALATED))

    assert found.kind == NoticeKind.ESCALATED
    assert found.headline == "It is so."
    assert found.wants_person is True


@pytest.mark.parametrize("kind", ["worsened", "recurred"])
def test_an_outage_wants_a_person_only_where_the_responder_is_not_at_work_on_it(kind: str) -> None:
    theirs = notice(kind, incident=incident(status=IncidentStatus.WAITING_APPROVAL))
    ours = notice(kind, incident=incident(status=IncidentStatus.OPEN))

    assert theirs.kind == NoticeKind.ESCALATED
    assert theirs.wants_person is True
    assert ours.kind == NoticeKind.OUTAGE
    assert ours.wants_person is False


def test_a_question_tells_what_would_be_done_and_how_to_answer() -> None:
    found = notice("approval_asked", question=question("i1", "i1.1"), public_url="https://relab.example")

    details = dict(found.details)
    assert found.wants_person
    assert "restart-worker" in found.headline
    assert details["Action"] == 'restart-worker {"worker":1} (class restart)'
    assert details["Reaches"] == "some_requests"
    assert details["Until"].endswith("Z")
    assert found.commands == (
        "lab incidents approve i1.1",
        'POST https://relab.example/agent/approvals/i1.1 {"approved": true}',
    )
    assert found.url == "https://relab.example/agent/incidents/i1"


def test_slack_is_named_where_it_is_listened_to() -> None:
    found = notice("approval_asked", question=question("i1", "i1.1"), answers_slack=True)

    assert found.commands[0] == "/relab approve i1.1"
    assert found.commands[-1] == 'POST /agent/approvals/i1.1 {"approved": true}'
    assert found.url is None


def test_a_question_that_cannot_be_answered_any_more_is_not_told() -> None:
    assert told("approval_asked", question=None) is None


def test_whoever_rejects_has_taken_it_and_whoever_approves_has_not() -> None:
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
    [("succeeded", "Acted"), ("failed", "Action failed"), ("undone", "Undone"), ("refused", "Action refused")],
)
def test_acts_are_told_with_what_came_of_them(status: str, title: str) -> None:
    found = notice("act_finished", {"status": status, "error": "No worker."})

    assert found.title == title
    assert found.kind == NoticeKind.ACTED
    assert found.details == (("Error", "No worker."),)


def test_that_an_act_did_not_help_is_told_and_that_it_did_is_told_by_the_end() -> None:
    assert notice("act_effect", {"effect": "worse"}).title == "Worse after the action"
    assert notice("act_effect", {"effect": "failed"}).title == "Action did not help"
    assert told("act_effect", {"effect": "verified"}) is None
    assert notice("not_undone").title == "Not undone"


def test_an_escalation_wants_a_person_and_is_critical() -> None:
    found = notice("escalated")

    assert found.wants_person is True
    assert found.severity == Severity.CRITICAL
    assert found.details == (("Likeliest cause", "database_lock (0.97)"),)


def test_a_responder_that_fails_wants_a_person_once_it_gives_up() -> None:
    trying = notice("failed")
    given_up = notice("failed", incident=incident(status=IncidentStatus.ESCALATED))

    assert trying.kind == NoticeKind.FAILED
    assert trying.wants_person is False
    assert given_up.kind == NoticeKind.ESCALATED
    assert given_up.wants_person is True
    assert given_up.severity == Severity.CRITICAL


@pytest.mark.parametrize("outcome", list(IncidentOutcome))
def test_every_end_is_told(outcome: IncidentOutcome) -> None:
    found = notice("closed", {"outcome": outcome.value}, incident=incident(status=outcome.status, closed_at=NOW_US))

    assert found.is_over is True
    assert found.is_stale is False
    assert found.title != "Incident closed"


def test_what_is_told_after_the_end_says_so() -> None:
    assert notice("escalated", incident=incident(status=IncidentStatus.CLOSED, closed_at=NOW_US)).is_stale

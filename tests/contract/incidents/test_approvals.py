"""Approval requests: each has one decision, within its time limit, about exactly the plan that was shown."""

from __future__ import annotations

import pytest

from relab.core.errors import ConflictError, InvalidInputError
from relab.incidents.actions.approvals import ApprovalDecidedError, ApprovalExpiredError, ApprovalState, approval_state
from relab.incidents.storage.errors import ApprovalNotFoundError, IncidentOverError
from relab.incidents.storage.log import IncidentLog
from relab.incidents.storage.models import IncidentOutcome, IncidentStatus, Phase
from support.incidents.acts import NOW_US
from support.incidents.logs import MINUTE_US, opened, plan, question


def test_request_and_its_incident_wait_until_a_decision(log: IncidentLog, target: str) -> None:
    incident_id = opened(log, target).incident_id
    request = question(incident_id, f"{target}-q")

    assert log.approvals.request(request) == request

    incident = log.get(incident_id)
    assert incident.status == IncidentStatus.WAITING_APPROVAL
    assert incident.phase == Phase.APPROVE
    assert log.approvals.pending(now_us=NOW_US, target=target) == [request]
    assert request in log.approvals.pending(now_us=NOW_US)
    assert log.approvals.get(request.approval_id) == (request, None)
    decision = log.approvals.decide(request.approval_id, approved=True, by="ann", now_us=NOW_US + 7, note="Go on.")
    assert decision.approved is True
    assert decision.by == "ann"
    assert decision.decided_at == NOW_US + 7
    assert decision.note == "Go on."
    assert log.approvals.of_incident(incident_id) == [(request, decision)]
    assert log.approvals.pending(now_us=NOW_US, target=target) == []
    assert log.get(incident_id).status is IncidentStatus.OPEN
    told = [event.message for event in log.read_after(incident_id)]
    assert told[1:] == [
        "Approval is requested for restart-worker on target: Restarts are approved by a person.",
        "ann approves restart-worker on target.",
    ]


def test_repeated_request_is_stored_once_and_cannot_change_its_incident(log: IncidentLog, target: str) -> None:
    incident_id = opened(log, target).incident_id
    request = log.approvals.request(question(incident_id, f"{target}-q"))

    later = request.model_copy(update={"asked_at": NOW_US + 9, "expires_at": NOW_US + 9 * MINUTE_US})
    assert log.approvals.request(later) == request, "a node that runs twice does not make the time longer"

    elsewhere = opened(log, f"{target}-other").incident_id
    with pytest.raises(ConflictError) as caught:
        log.approvals.request(question(elsewhere, request.approval_id))
    assert caught.value.code == "conflict"


def test_rejection_is_final(log: IncidentLog, target: str) -> None:
    incident_id = opened(log, target).incident_id
    approval_id = log.approvals.request(question(incident_id, f"{target}-q")).approval_id
    first = log.approvals.decide(approval_id, approved=False, by="ann", now_us=NOW_US)

    assert log.approvals.decide(approval_id, approved=False, by="bob", now_us=NOW_US + 1) == first
    with pytest.raises(ApprovalDecidedError, match="ann"):
        log.approvals.decide(approval_id, approved=True, by="bob", now_us=NOW_US + 1)
    assert log.approvals.get(approval_id)[1] == first
    assert [event.kind for event in log.read_after(incident_id)][2:] == ["approval_decided"]


def test_approval_can_be_turned_into_a_rejection(log: IncidentLog, target: str) -> None:
    incident_id = opened(log, target).incident_id
    approval_id = log.approvals.request(question(incident_id, f"{target}-q")).approval_id
    log.approvals.decide(approval_id, approved=True, by="ann", now_us=NOW_US)
    log.approvals.decide(approval_id, approved=False, by="bob", now_us=NOW_US + 1)

    request, decision = log.approvals.get(approval_id)

    ruling = approval_state(request, decision, plan=plan(), state_digest=request.state_digest, now_us=NOW_US + 2)
    assert ruling is ApprovalState.REJECTED


def test_expired_request_can_only_be_rejected(log: IncidentLog, target: str) -> None:
    approval_id = log.approvals.request(question(opened(log, target).incident_id, f"{target}-q")).approval_id

    for now_us in (NOW_US + MINUTE_US, NOW_US - 1):
        assert log.approvals.pending(now_us=now_us, target=target) == []
        with pytest.raises(ApprovalExpiredError):
            log.approvals.decide(approval_id, approved=True, by="ann", now_us=now_us)
    assert log.approvals.get(approval_id)[1] is None
    late = log.approvals.decide(approval_id, approved=False, by="ann", now_us=NOW_US + 2 * MINUTE_US)
    assert not late.approved, "to reject is never too late"


def test_incident_that_is_over_accepts_no_approval(log: IncidentLog, target: str) -> None:
    incident_id = opened(log, target).incident_id
    approval_id = log.approvals.request(question(incident_id, f"{target}-q")).approval_id
    log.close(incident_id, at_us=NOW_US, outcome=IncidentOutcome.PASSED)

    assert log.approvals.pending(now_us=NOW_US, target=target) == []
    with pytest.raises(IncidentOverError):
        log.approvals.decide(approval_id, approved=True, by="ann", now_us=NOW_US)


def test_decision_does_not_reopen_an_escalated_incident(log: IncidentLog, target: str) -> None:
    incident_id = opened(log, target).incident_id
    approval_id = log.approvals.request(question(incident_id, f"{target}-q")).approval_id
    log.update(incident_id, at_us=NOW_US, status=IncidentStatus.ESCALATED)

    log.approvals.decide(approval_id, approved=False, by="ann", now_us=NOW_US)

    assert log.get(incident_id).status is IncidentStatus.ESCALATED


def test_long_texts_beside_a_plan_are_cut_and_the_plan_is_not(log: IncidentLog, target: str) -> None:
    incident_id = opened(log, target).incident_id
    wordy = question(incident_id, f"{target}-q", plan=plan(why="w\x00" * 9_999), ground="g" * 9_999)

    stored = log.approvals.request(wordy)

    assert stored == log.approvals.get(wordy.approval_id)[0]
    assert stored.plan.fingerprint == wordy.plan.fingerprint
    assert stored.plan.why.endswith("… [19,998 characters]")
    decision = log.approvals.decide(
        stored.approval_id, approved=True, by=" a\x00" * 200, now_us=NOW_US, note="n" * 9_999
    )
    assert len(decision.by) == 200
    assert len(decision.note) == 2_000
    for odd in (
        question(incident_id, f"{target}-r", plan=plan(parameters={"name": "a\x00"})),
        question(incident_id, "x" * 201),
        question(incident_id, "\x00"),
    ):
        with pytest.raises(InvalidInputError, match="cannot be stored unchanged"):
            log.approvals.request(odd)
    with pytest.raises(InvalidInputError) as caught:
        log.approvals.decide(stored.approval_id, approved=False, by="  ", now_us=NOW_US)
    assert caught.value.problems == (("by", "is empty"),)


@pytest.mark.parametrize("approval_id", ["none", "", "\x00", "\ud800", "x" * 999])
def test_unknown_approval_request_is_not_found(log: IncidentLog, approval_id: str) -> None:
    with pytest.raises(ApprovalNotFoundError):
        log.approvals.get(approval_id)
    with pytest.raises(ApprovalNotFoundError):
        log.approvals.decide(approval_id, approved=False, by="ann", now_us=NOW_US)


def test_withdrawn_request_is_not_pending_and_cannot_be_approved(log: IncidentLog, target: str) -> None:
    incident_id = opened(log, target).incident_id
    approval_id = log.approvals.request(question(incident_id, f"{target}-q")).approval_id

    assert log.approvals.withdraw(approval_id, now_us=NOW_US + 5, why="it has grown.") is None
    assert log.approvals.withdraw(approval_id, now_us=NOW_US + 6, why="it has grown.") is None

    assert log.get(incident_id).status is IncidentStatus.OPEN
    assert log.approvals.pending(now_us=NOW_US + 5, target=target) == []
    with pytest.raises(ApprovalExpiredError):
        log.approvals.decide(approval_id, approved=True, by="ann", now_us=NOW_US + 6)
    rejection = log.approvals.decide(approval_id, approved=False, by="ann", now_us=NOW_US + 7)
    assert log.approvals.get(approval_id)[1] == rejection, "to reject is never too late"
    told = [event.message for event in log.read_after(incident_id)]
    assert told[2:] == [
        "The approval request for restart-worker is withdrawn: it has grown.",
        "ann rejects restart-worker on target.",
    ]


@pytest.mark.parametrize("approved", [True, False])
def test_answered_request_is_not_withdrawn(log: IncidentLog, target: str, approved: bool) -> None:
    incident_id = opened(log, target).incident_id
    request = log.approvals.request(question(incident_id, f"{target}-q"))
    first = log.approvals.decide(request.approval_id, approved=approved, by="ann", now_us=NOW_US)

    assert log.approvals.withdraw(request.approval_id, now_us=NOW_US + 5, why="it has grown.") == first
    assert log.approvals.get(request.approval_id) == (request, first)
    with pytest.raises(ApprovalNotFoundError):
        log.approvals.withdraw(f"{target}-other", now_us=NOW_US, why="it has grown.")

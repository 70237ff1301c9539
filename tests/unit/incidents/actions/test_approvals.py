"""Approval decisions: how long each is valid, for which plan, and that a person may withdraw it."""

from __future__ import annotations

import json

import pytest
from pydantic import ValidationError

from relab.incidents.actions.approvals import (
    ApprovalDecidedError,
    ApprovalExpiredError,
    ApprovalRequest,
    ApprovalState,
    Decision,
    SeveralPlansError,
    approval_request,
    approval_state,
    decide,
    rejected_by,
    request_to_answer,
)
from relab.incidents.actions.catalogue import UserImpact
from relab.incidents.actions.planning import ActionPlan
from support.incidents.acts import NOW_US, SECOND_US

PLAN = ActionPlan(
    cause="process_stopped", probability=0.9, confidence=0.9, action="restart-worker", action_class="restart",
    blast_radius=UserImpact.SOME_REQUESTS, target="target", parameters={"worker": 1},
)  # fmt: skip
REQUEST = approval_request(
    PLAN, approval_id="a1", incident_id="i1", state_digest="sha256:1", ground="by default", now_us=NOW_US, valid_s=60
)


def answer(approved: bool, at_s: float = 1, earlier: Decision | None = None, by: str = "ann") -> Decision:
    return decide(REQUEST, earlier, approved=approved, by=by, now_us=NOW_US + int(at_s * SECOND_US))


def test_approval_by_incident_id_is_rejected_if_several_plans_were_requested() -> None:
    again = REQUEST.model_copy(update={"approval_id": "a2"})
    other = REQUEST.model_copy(update={"approval_id": "a3", "plan": PLAN.model_copy(update={"action": "drain-worker"})})
    assert request_to_answer([(REQUEST, None), (again, None)], approved=True) == again
    assert request_to_answer([(REQUEST, None), (other, None)], approved=False) == other
    with pytest.raises(SeveralPlansError, match="drain-worker on target") as caught:
        request_to_answer([(REQUEST, None), (other, None)], approved=True)
    assert "a3" in (caught.value.remedy or "")


def stands(
    decision: Decision | None, at_s: float = 2, plan: ActionPlan = PLAN, state_digest: str | None = "sha256:1"
) -> ApprovalState:
    return approval_state(
        REQUEST, decision, plan=plan, state_digest=state_digest, now_us=NOW_US + int(at_s * SECOND_US)
    )


def test_approval_is_valid_for_its_plan_and_state_until_it_expires() -> None:
    yes = answer(True)
    assert stands(yes) is ApprovalState.APPROVED
    assert stands(yes, 59.9) is ApprovalState.APPROVED
    assert stands(yes, 60) is ApprovalState.EXPIRED
    assert stands(yes, state_digest="sha256:2") is ApprovalState.STATE_CHANGED
    assert stands(yes, state_digest=None) is ApprovalState.STATE_CHANGED
    assert stands(yes, plan=PLAN.model_copy(update={"parameters": {"worker": 2}})) is ApprovalState.STATE_CHANGED
    assert stands(yes, plan=PLAN.model_copy(update={"action": "restart-target"})) is ApprovalState.STATE_CHANGED


def test_clock_set_back_does_not_extend_an_approval() -> None:
    assert stands(answer(True), -1) is ApprovalState.EXPIRED
    with pytest.raises(ApprovalExpiredError):
        answer(True, -1)


def test_request_without_a_decision_is_pending_and_then_expires() -> None:
    assert stands(None) is ApprovalState.PENDING
    assert stands(None, 60) is ApprovalState.EXPIRED
    other = answer(True).model_copy(update={"approval_id": "a2"})
    assert stands(other) is ApprovalState.PENDING


def test_rejection_is_valid_at_any_time() -> None:
    for at_s in (1, 1_000):
        assert stands(answer(False, at_s), at_s + 1) is ApprovalState.REJECTED


def test_first_decision_counts_and_may_be_withdrawn() -> None:
    yes = answer(True)
    assert answer(True, 5, yes, by="bob") == yes
    no = answer(False, 5, yes, by="bob")
    assert no.approved is False
    assert no.by == "bob"
    assert stands(no, 6) == ApprovalState.REJECTED
    with pytest.raises(ApprovalDecidedError, match="'bob' has rejected restart-worker"):
        answer(True, 6, no)


def test_only_the_rejected_action_on_the_same_part_is_rejected() -> None:
    other = REQUEST.model_copy(update={"approval_id": "a2", "plan": PLAN.model_copy(update={"action": "drain-worker"})})
    asked = [(REQUEST, answer(False)), (other, answer(True, by="bob"))]
    assert rejected_by(asked, "restart-worker", "target") == "ann"
    assert rejected_by(asked, "restart-worker", "database") is None
    assert rejected_by(asked, "drain-worker", "target") is None
    assert rejected_by([(REQUEST, None), (REQUEST, answer(True))], "restart-worker", "target") is None
    assert rejected_by([(REQUEST, None), (REQUEST, answer(False))], "restart-worker", "target") == "ann"


@pytest.mark.parametrize(
    ("state", "words"),
    [
        (ApprovalState.STATE_CHANGED, "is void, because the plan or the service has changed since the request"),
        (ApprovalState.EXPIRED, "has expired"),
        (ApprovalState.REJECTED, "is rejected"),
    ],
)
def test_state_of_an_approval_ends_a_sentence(state: ApprovalState, words: str) -> None:
    assert state.words == words


def test_expired_request_cannot_be_approved() -> None:
    with pytest.raises(ApprovalExpiredError):
        answer(True, 60)


def test_decision_needs_a_name() -> None:
    with pytest.raises(ValidationError):
        answer(True, by="")


def test_requests_and_decisions_survive_a_json_round_trip() -> None:
    for value in (REQUEST, answer(True)):
        document = json.loads(json.dumps(value.model_dump(mode="json")))
        assert type(value).model_validate(document) == value
    assert ApprovalRequest.model_validate(REQUEST.model_dump(mode="json")).plan == PLAN

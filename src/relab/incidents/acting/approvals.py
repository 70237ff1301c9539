"""What people decide about plans, and how long that holds. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from enum import StrEnum
from typing import Final

from pydantic import BaseModel, ConfigDict, Field

from relab.core.clock import Timestamp, format_time
from relab.core.errors import ConflictError
from relab.incidents.acting.planning import Plan

_US: Final = 1_000_000
MOST_UNANSWERED: Final = 24
"""After so many questions in a row without an answer an incident is escalated."""


class ApprovalDecidedError(ConflictError):
    """Somebody has decided otherwise already."""

    code = "approval_decided"


class ApprovalExpiredError(ConflictError):
    """The time in which it could be decided is over."""

    code = "approval_expired"


class ApprovalRequest(BaseModel):
    """A question to people. It goes to JSON and back unchanged.

    Attributes:
        state_digest: of the state in which the plan was made; only in that state an answer holds.
        ground: why a person is asked, in one sentence.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    approval_id: str
    incident_id: str
    plan: Plan
    state_digest: str | None
    ground: str
    asked_at: Timestamp
    expires_at: Timestamp


class Decision(BaseModel):
    """An answer. It goes to JSON and back unchanged."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    approval_id: str
    approved: bool
    by: str = Field(min_length=1, max_length=200)
    decided_at: Timestamp
    note: str = Field("", max_length=2_000)


class SeveralPlansError(ConflictError):
    """An incident has asked about several plans, and it is not said which one is approved."""

    code = "several_plans"


class Standing(StrEnum):
    """What a question and its answer come to now."""

    PENDING = "pending"
    APPROVED = "approved"
    REJECTED = "rejected"
    EXPIRED = "expired"
    """The time is over: ask anew."""
    STATE_CHANGED = "state_changed"
    """The plan, or the state that it was made in, is another one: look and ask anew."""


def ask(
    plan: Plan,
    *,
    approval_id: str,
    incident_id: str,
    state_digest: str | None,
    ground: str,
    now_us: int,
    valid_s: float,
) -> ApprovalRequest:
    """Return a question about a plan that can be answered for some time."""
    return ApprovalRequest(
        approval_id=approval_id,
        incident_id=incident_id,
        plan=plan,
        state_digest=state_digest,
        ground=ground,
        asked_at=now_us,
        expires_at=now_us + int(valid_s * _US),
    )


def decide(
    request: ApprovalRequest, earlier: Decision | None, *, approved: bool, by: str, now_us: int, note: str = ""
) -> Decision:
    """Return a person's answer.

    The first answer holds, and the same one again changes nothing; but what was approved may still be rejected.

    Raises:
        ApprovalExpiredError: it is too late, or the clock was set back so that nobody can tell.
        ApprovalDecidedError: it was rejected, and now somebody approves.
    """
    if earlier is not None and earlier.approved is approved:
        return earlier
    if earlier is not None and approved:
        raise ApprovalDecidedError(
            f"{earlier.by!r:.60} has rejected {request.plan.action} at {format_time(earlier.decided_at)}.",
            remedy="Trigger the incident again to have something else planned, or do it by hand.",
        )
    # To reject is never too late.
    if approved and not _is_in_time(request, now_us):
        raise ApprovalExpiredError(
            f"{request.plan.action} could be approved until {format_time(request.expires_at)}.",
            remedy="It is asked for anew if it is still wanted; answer that question.",
        )
    return Decision(approval_id=request.approval_id, approved=approved, by=by, decided_at=now_us, note=note)


def question_meant(asked: Sequence[tuple[ApprovalRequest, Decision | None]], *, approved: bool) -> ApprovalRequest:
    """Return which question of an incident an answer is meant for that names the incident alone: the last one.

    To say no is safe. Whoever says yes may have read of another plan, which was not the last one any more by then.

    Args:
        asked: questions of one incident, at least one.
        approved: what is answered.

    Raises:
        SeveralPlansError: it is approved, and people were asked about several plans.
    """
    last = asked[-1][0]
    if approved and any(request.plan.fingerprint != last.plan.fingerprint for request, _ in asked):
        raise SeveralPlansError(
            f"{last.incident_id} has asked about several plans; the last one is {last.plan.action} on {last.plan.target}.",
            remedy=f"Approve {last.approval_id}, if this is the one that is meant.",
        )
    return last


def rejecter_of(asked: Iterable[tuple[ApprovalRequest, Decision | None]], action: str, target: str) -> str | None:
    """Return who has said no to an action on a part, in any question of an incident, also in a withdrawn one."""
    for request, decision in asked:
        is_same = (request.plan.action, request.plan.target) == (action, target)
        if is_same and decision is not None and not decision.approved:
            return decision.by
    return None


def standing(
    request: ApprovalRequest, decision: Decision | None, *, plan: Plan, state_digest: str | None, now_us: int
) -> Standing:
    """Return whether a plan may be executed now, as far as people have decided.

    Args:
        request: what people were asked.
        decision: what they have answered, to this question.
        plan: that would be executed.
        state_digest: of the state now, from a dry run.
        now_us: the time.
    """
    if decision is not None and decision.approval_id != request.approval_id:
        decision = None
    if decision is not None and not decision.approved:
        return Standing.REJECTED
    if not _is_in_time(request, now_us):
        return Standing.EXPIRED
    if plan.fingerprint != request.plan.fingerprint or state_digest != request.state_digest:
        return Standing.STATE_CHANGED
    return Standing.PENDING if decision is None else Standing.APPROVED


def _is_in_time(request: ApprovalRequest, now_us: int) -> bool:
    """Return whether an answer counts now. Before it was asked it does not: the clock was set back, and would never end."""
    return request.asked_at <= now_us < request.expires_at

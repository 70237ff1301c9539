"""Approval requests for plans: create them, answer them, and check whether an approval still holds. Pure functions."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from enum import StrEnum
from typing import Final

from pydantic import BaseModel, ConfigDict, Field

from relab.core.clock import Timestamp, format_time
from relab.core.errors import ConflictError
from relab.incidents.actions.planning import ActionPlan

_US: Final = 1_000_000
MAX_UNANSWERED: Final = 24
"""The number of consecutive unanswered approval requests after which an incident is escalated."""


class ApprovalDecidedError(ConflictError):
    """A person has already rejected the plan, so it cannot be approved."""

    code = "approval_decided"


class ApprovalExpiredError(ConflictError):
    """A plan was approved too late or too early; it can be approved from `asked_at` on, and before `expires_at`."""

    code = "approval_expired"


class ApprovalRequest(BaseModel):
    """The question to people whether a plan may be executed; stored as JSON.

    Attributes:
        state_digest: the action server's digest of the service's state when the plan was made; None if it sent none.
            An approval is valid only while the state has this digest.
        ground: why a person has to decide, in one sentence.
        expires_at: from this time on, the plan can no longer be approved.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    approval_id: str
    incident_id: str
    plan: ActionPlan
    state_digest: str | None
    ground: str
    asked_at: Timestamp
    expires_at: Timestamp


class Decision(BaseModel):
    """A person's answer to an approval request; stored as JSON.

    Attributes:
        by: the name of the person.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    approval_id: str
    approved: bool
    by: str = Field(min_length=1, max_length=200)
    decided_at: Timestamp
    note: str = Field("", max_length=2_000)


class SeveralPlansError(ConflictError):
    """A person approves by the id of the incident, but the incident has requested approval of several different plans.

    The error is also raised if earlier requests are already decided.
    """

    code = "several_plans"


class ApprovalState(StrEnum):
    """The present status of an approval request: pending, approved, rejected, or no longer valid."""

    PENDING = "pending"
    APPROVED = "approved"
    REJECTED = "rejected"
    EXPIRED = "expired"
    """The question has expired: ask again."""
    STATE_CHANGED = "state_changed"
    """The plan, or the state in which it was made, has changed: probe the target and ask again."""

    @property
    def words(self) -> str:
        """The status as the end of a sentence, such as `has expired`."""
        if self is ApprovalState.STATE_CHANGED:
            return "is void, because the plan or the service has changed since the request"
        return "has expired" if self is ApprovalState.EXPIRED else f"is {self.value}"


def approval_request(
    plan: ActionPlan,
    *,
    approval_id: str,
    incident_id: str,
    state_digest: str | None,
    ground: str,
    now_us: int,
    valid_s: float,
) -> ApprovalRequest:
    """Return an approval request for a plan.

    Args:
        plan: the action to be approved, with its parameters.
        approval_id: the id of the new request.
        incident_id: the incident that the plan belongs to.
        state_digest: the action server's digest of the state in which the plan was made; None if it sent none.
        ground: why a person is asked, in one sentence.
        now_us: the current time, in microseconds since 1970.
        valid_s: the request expires this many seconds after `now_us`.
    """
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
    """Return a person's decision about an approval request; return `earlier` if it already has the same answer.

    An approval may later be changed to a rejection, but a rejection is final.

    Args:
        request: the approval request.
        earlier: the decision so far; None if nothing was decided yet.
        approved: whether the person approves the plan.
        by: the name of the person.
        now_us: the current time, in microseconds since 1970.
        note: the person's remark.

    Raises:
        ApprovalExpiredError: the person approves after the request has expired, or at a time before the request was
            made (because the clock was set back).
        ApprovalDecidedError: the person approves, but the plan was rejected already.
    """
    if earlier is not None and earlier.approved is approved:
        return earlier
    if earlier is not None and approved:
        raise ApprovalDecidedError(
            f"{earlier.by!r:.60} has rejected {request.plan.action} at {format_time(earlier.decided_at)}.",
            remedy="Trigger the incident again for another plan, or do it by hand.",
        )
    # To reject is never too late.
    if approved and not _is_in_time(request, now_us):
        raise ApprovalExpiredError(
            f"{request.plan.action} could be approved until {format_time(request.expires_at)}.",
            remedy="If it is still needed, a new request follows; answer that one.",
        )
    return Decision(approval_id=request.approval_id, approved=approved, by=by, decided_at=now_us, note=note)


def request_to_answer(asked: Sequence[tuple[ApprovalRequest, Decision | None]], *, approved: bool) -> ApprovalRequest:
    """Return the newest approval request of an incident; a person who names only the incident answers this one.

    Args:
        asked: all approval requests of the incident, the newest last, with their decisions (None if undecided). They
            include decided and expired requests; there is at least one.
        approved: whether the answer is an approval.

    Raises:
        SeveralPlansError: the answer is an approval, and the requests are about different plans.
    """
    last = asked[-1][0]
    # The person may mean an earlier plan; a rejection is always safe.
    if approved and any(request.plan.fingerprint != last.plan.fingerprint for request, _ in asked):
        raise SeveralPlansError(
            f"{last.incident_id} has requested approval of several plans; the last one is {last.plan.action} on {last.plan.target}.",
            remedy=f"Approve {last.approval_id} if you mean this one.",
        )
    return last


def rejected_by(asked: Iterable[tuple[ApprovalRequest, Decision | None]], action: str, target: str) -> str | None:
    """Return the name of the person who rejected `action` on `target`; None if no person did.

    `target` is the part of the service that the action changes. `asked` holds approval requests, withdrawn ones
    included, with their decisions (None if undecided).
    """
    for request, decision in asked:
        is_same = (request.plan.action, request.plan.target) == (action, target)
        if is_same and decision is not None and not decision.approved:
            return decision.by
    return None


def approval_state(
    request: ApprovalRequest, decision: Decision | None, *, plan: ActionPlan, state_digest: str | None, now_us: int
) -> ApprovalState:
    """Return the present status of an approval request for executing `plan`. The first case that applies decides.

    - `REJECTED`: a person rejected the request.
    - `EXPIRED`: the request is not valid at `now_us`; it is valid from `asked_at` on, and before `expires_at`.
    - `STATE_CHANGED`: `plan` or `state_digest` differs from that in the request.
    - `PENDING`: no person has decided about the request.
    - `APPROVED`: a person approved the request.

    Args:
        request: the approval request.
        decision: the decision; None, or a decision about another request, means undecided.
        plan: the plan to execute.
        state_digest: the action server's digest of the present state, from a dry run; None if it sent none.
        now_us: the current time, in microseconds since 1970.
    """
    if decision is not None and decision.approval_id != request.approval_id:
        decision = None
    if decision is not None and not decision.approved:
        return ApprovalState.REJECTED
    if not _is_in_time(request, now_us):
        return ApprovalState.EXPIRED
    if plan.fingerprint != request.plan.fingerprint or state_digest != request.state_digest:
        return ApprovalState.STATE_CHANGED
    return ApprovalState.PENDING if decision is None else ApprovalState.APPROVED


def _is_in_time(request: ApprovalRequest, now_us: int) -> bool:
    """Return whether a request can be approved at `now_us`: from `asked_at` on, and before `expires_at`."""
    # If the clock was set back, a request without the lower limit would stay valid for too long.
    return request.asked_at <= now_us < request.expires_at

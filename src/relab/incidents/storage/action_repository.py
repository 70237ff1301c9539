"""Database queries that read and write actions and approval requests. Every function takes the session of a transaction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import func, insert, or_, select, update

from relab.incidents.actions.records import ActionStatus
from relab.incidents.storage.tables import ActionRow, ApprovalRow, IncidentRow
from relab.storage.base import table_of
from relab.storage.session import DatabaseSession

_APPROVAL = (ApprovalRow.approval_id, ApprovalRow.incident_id, ApprovalRow.request, ApprovalRow.decision)


def add_act(session: DatabaseSession, values: Mapping[str, Any]) -> None:
    """Insert an action; `values` maps each column name of the table of actions to its value.

    Raises:
        sqlalchemy.exc.IntegrityError: an action with this key is stored already; the unit of work converts this error
            to `ConstraintError`.
    """
    session.execute(insert(table_of(ActionRow)).values(**values))


def get_act(session: DatabaseSession, key: str) -> dict[str, Any] | None:
    """Return the action with this idempotency key, as the JSON of an `ActionRecord`; None if no action has this key."""
    return session.execute(select(ActionRow.content).where(ActionRow.key == key)).scalar_one_or_none()


def change_act(session: DatabaseSession, key: str, *, status: str, content: Mapping[str, Any]) -> None:
    """Update the status and the JSON content (an `ActionRecord`) of the action with this idempotency key."""
    session.execute(
        update(table_of(ActionRow)).where(ActionRow.key == key).values(status=status, content=dict(content))
    )


def acts_of_incident(session: DatabaseSession, incident_id: str, limit: int) -> Sequence[dict[str, Any]]:
    """Return at most `limit` actions of an incident, each as the JSON of an `ActionRecord`.

    The actions are in the order in which they were requested.
    """
    statement = select(ActionRow.content).where(ActionRow.incident_id == incident_id).order_by(ActionRow.seq)
    return session.execute(statement.limit(limit)).scalars().all()


def acts_of_target(session: DatabaseSession, target: str, since: int, limit: int) -> Sequence[dict[str, Any]]:
    """Return at most `limit` actions on a target, each as the JSON of an `ActionRecord`, the latest first.

    These are the actions requested at `since` (microseconds since 1970) or later, and earlier actions without a result.
    """
    statement = select(ActionRow.content).where(
        ActionRow.target == target, or_(ActionRow.asked_at >= since, ActionRow.status == ActionStatus.ASKED)
    )
    ordered = statement.order_by(ActionRow.asked_at.desc(), ActionRow.incident_id.desc(), ActionRow.seq.desc())
    return session.execute(ordered.limit(limit)).scalars().all()


def unsettled_acts(session: DatabaseSession, target: str | None) -> Sequence[dict[str, Any]]:
    """Return the actions on a target (None: on all targets) without a result, the oldest first, as stored JSON."""
    statement = select(ActionRow.content).where(ActionRow.status == ActionStatus.ASKED)
    if target is not None:
        statement = statement.where(ActionRow.target == target)
    return session.execute(statement.order_by(ActionRow.asked_at, ActionRow.incident_id, ActionRow.seq)).scalars().all()


def add_approval(session: DatabaseSession, values: Mapping[str, Any]) -> None:
    """Insert an approval request; `values` maps each column name of the table of requests to its value.

    Raises:
        sqlalchemy.exc.IntegrityError: a request with this id is stored already; the unit of work converts this error to
            `ConstraintError`.
    """
    session.execute(insert(table_of(ApprovalRow)).values(**values))


def get_approval(session: DatabaseSession, approval_id: str) -> Any | None:
    """Return the row `(approval_id, incident_id, request, decision)` of an approval request.

    Return None if the request does not exist.
    """
    return session.execute(select(*_APPROVAL).where(ApprovalRow.approval_id == approval_id)).one_or_none()


def approvals_of_incident(session: DatabaseSession, incident_id: str) -> Sequence[Any]:
    """Return an incident's approval requests as rows `(approval_id, incident_id, request, decision)`, oldest first."""
    statement = select(*_APPROVAL).where(ApprovalRow.incident_id == incident_id)
    # Sort by the number in the id (10 after 9) and not by time, because clocks may be set back.
    return session.execute(statement.order_by(func.length(ApprovalRow.approval_id), ApprovalRow.approval_id)).all()


def set_decision(session: DatabaseSession, approval_id: str, decision: Mapping[str, Any]) -> None:
    """Store a person's decision on an approval request, as JSON."""
    statement = update(table_of(ApprovalRow)).where(ApprovalRow.approval_id == approval_id)
    session.execute(statement.values(decision=dict(decision)))


def set_request(session: DatabaseSession, approval_id: str, request: Mapping[str, Any], expires_at: int) -> None:
    """Replace the approval request with this id by `request`, a JSON object.

    `expires_at` is the time at which the new request expires, in microseconds since 1970.
    """
    statement = update(table_of(ApprovalRow)).where(ApprovalRow.approval_id == approval_id)
    session.execute(statement.values(request=dict(request), expires_at=expires_at))


def pending_approvals(session: DatabaseSession, target: str | None, now: int) -> Sequence[Any]:
    """Return the approval requests of open incidents that can be decided at the time `now`, the oldest first.

    Each row is `(approval_id, incident_id, request, decision)`.

    Args:
        session: the session of the transaction.
        target: only requests of incidents of this target; None for all targets.
        now: the time, in microseconds since 1970.
    """
    statement = (
        select(*_APPROVAL)
        .join(IncidentRow, IncidentRow.incident_id == ApprovalRow.incident_id)
        .where(
            IncidentRow.closed_at.is_(None),
            ApprovalRow.decision.is_(None),
            ApprovalRow.asked_at <= now,
            ApprovalRow.expires_at > now,
        )
    )
    if target is not None:
        statement = statement.where(IncidentRow.target == target)
    return session.execute(statement.order_by(ApprovalRow.asked_at, ApprovalRow.approval_id)).all()

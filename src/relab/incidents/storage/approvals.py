"""Store approval requests and the decisions of people; the rules are in `incidents.actions.approvals`."""

from __future__ import annotations

from typing import Any, Final

from relab.core.errors import ConflictError, InvalidInputError
from relab.incidents.actions.approvals import ApprovalRequest, Decision, decide
from relab.incidents.storage import action_repository, repository
from relab.incidents.storage.errors import ApprovalNotFoundError, IncidentOverError
from relab.incidents.storage.models import EventKind, IncidentStatus, NewEvent, Phase
from relab.incidents.storage.text_limits import cut, is_storable, name_of, require_exact
from relab.incidents.storage.timeline import Timeline, can_be_id
from relab.storage import Database, UnitOfWork

MAX_REQUEST_BYTES: Final = 32_768


class ApprovalLog:
    """Stores the approval requests of all incidents, and the decisions on them."""

    def __init__(self, database: Database, timeline: Timeline) -> None:
        self._database = database
        self._timeline = timeline

    def request(self, request: ApprovalRequest) -> ApprovalRequest:
        """Store an approval request, and set the status of its incident to "waiting for approval".

        If a request with the same id is stored already, return the stored one.

        Raises:
            IncidentNotFoundError: no incident has this id.
            IncidentOverError: the incident is over.
            InvalidInputError: the plan cannot be stored unchanged, so people would approve a different one.
            ConflictError: the id belongs to a request of another incident.
        """
        request = _storable(request)
        with self._database.write() as unit:
            row = self._timeline.lock(unit, request.incident_id)
            stored = action_repository.get_approval(unit.session, request.approval_id)
            if stored is not None:
                if stored.incident_id != request.incident_id:
                    raise ConflictError(f"The approval request {request.approval_id} belongs to another incident.")
                return ApprovalRequest.model_validate(stored.request)
            if row.closed_at is not None:
                raise IncidentOverError(request.incident_id)
            values = {
                "approval_id": request.approval_id,
                "incident_id": request.incident_id,
                "asked_at": request.asked_at,
                "expires_at": request.expires_at,
                "request": request.model_dump(mode="json"),
                "decision": None,
            }
            action_repository.add_approval(unit.session, values)
            course = {"status": IncidentStatus.WAITING_APPROVAL, "phase": Phase.APPROVE}
            repository.change(unit.session, request.incident_id, course)
            message = f"Approval is requested for {request.plan.action} on {request.plan.target}: {request.ground}"
            event = NewEvent(EventKind.APPROVAL_ASKED, message, {"request": values["request"]})
            self._timeline.append_events(unit, request.incident_id, request.asked_at, [event])
        return request

    def decide(self, approval_id: str, *, approved: bool, by: str, now_us: int, note: str = "") -> Decision:
        """Store a person's decision on an approval request, and return the decision that is now in force.

        A repeated decision changes nothing. An approved plan may still be rejected; a rejected plan cannot be approved.

        Args:
            approval_id: the id of the approval request.
            approved: True to approve the plan, False to reject it.
            by: the name of the person.
            now_us: the current time, in microseconds since 1970.
            note: the person's remark.

        Raises:
            ApprovalNotFoundError: no approval request has this id.
            ApprovalExpiredError: the person approves, but the request has expired.
            ApprovalDecidedError: the person approves, but the request was rejected.
            IncidentOverError: the person approves, but the incident is over.
            InvalidInputError: `by` is empty.
        """
        name = cut(by.strip(), 200)
        if not name:
            raise InvalidInputError("The name of the person who decides is missing.", problems=(("by", "is empty"),))
        with self._database.write() as unit:
            # The lock makes concurrent decisions on one request wait for each other.
            request, earlier = self._locked(unit, approval_id, approved=approved)
            decision = decide(request, earlier, approved=approved, by=name, now_us=now_us, note=cut(note, 2_000))
            if decision is earlier:
                return decision
            content = decision.model_dump(mode="json")
            action_repository.set_decision(unit.session, approval_id, content)
            self._go_on(unit, request.incident_id)
            verb = "approves" if approved else "rejects"
            message = f"{name} {verb} {request.plan.action} on {request.plan.target}."
            event = NewEvent(EventKind.APPROVAL_DECIDED, message, {"decision": content})
            self._timeline.append_events(unit, request.incident_id, now_us, [event])
        return decision

    def withdraw(self, approval_id: str, *, now_us: int, why: str) -> Decision | None:
        """Withdraw an approval request, so that it can no longer be approved.

        Args:
            approval_id: the id of the approval request.
            now_us: the current time, in microseconds since 1970.
            why: the reason for the withdrawal, as a sentence; the message in the incident's timeline ends with it.

        Returns:
            The decision if a person decided the request earlier; that decision remains in force. None if the request is
            now withdrawn, or had already expired.

        Raises:
            ApprovalNotFoundError: no approval request has this id.
        """
        with self._database.write() as unit:
            request, decision = self._locked(unit, approval_id, approved=False)
            if decision is not None or request.expires_at <= now_us:
                return decision
            # A request must not expire before it was made; the clock may have been set back.
            ended = request.model_copy(update={"expires_at": max(request.asked_at, now_us)})
            action_repository.set_request(unit.session, approval_id, ended.model_dump(mode="json"), ended.expires_at)
            self._go_on(unit, request.incident_id)
            message = f"The approval request for {request.plan.action} is withdrawn: {why}"
            event = NewEvent(EventKind.APPROVAL_WITHDRAWN, message, {"approval_id": approval_id})
            self._timeline.append_events(unit, request.incident_id, now_us, [event])
        return None

    def get(self, approval_id: str) -> tuple[ApprovalRequest, Decision | None]:
        """Return an approval request with the decision on it; the decision is None if nothing was decided.

        Raises:
            ApprovalNotFoundError: no approval request has this id.
        """
        with self._database.read() as session:
            row = action_repository.get_approval(session, approval_id) if is_storable(approval_id) else None
        return _read(row, approval_id)

    def of_incident(self, incident_id: str) -> list[tuple[ApprovalRequest, Decision | None]]:
        """Return the approval requests of an incident, oldest first, each with its decision (None if undecided)."""
        with self._database.read() as session:
            rows = action_repository.approvals_of_incident(session, incident_id) if can_be_id(incident_id) else []
        return [_read(row, row.approval_id) for row in rows]

    def pending(self, *, now_us: int, target: str | None = None) -> list[ApprovalRequest]:
        """Return the approval requests that can be decided at a time, the oldest first.

        A request can be decided if its incident is not over, it has no decision, and it has not expired.

        Args:
            now_us: the time, in microseconds since 1970.
            target: only requests for incidents of this target; None: of all targets.
        """
        name = None if target is None else name_of(target)
        with self._database.read() as session:
            rows = action_repository.pending_approvals(session, name, now_us)
        return [ApprovalRequest.model_validate(row.request) for row in rows]

    def _locked(self, unit: UnitOfWork, approval_id: str, *, approved: bool) -> tuple[ApprovalRequest, Decision | None]:
        session = unit.session
        row = action_repository.get_approval(session, approval_id) if is_storable(approval_id) else None
        request, _ = _read(row, approval_id)
        incident = self._timeline.lock(unit, request.incident_id)
        if approved and incident.closed_at is not None:
            raise IncidentOverError(request.incident_id)
        # Read again: another person may have decided before this process got the lock.
        return _read(action_repository.get_approval(session, approval_id), approval_id)

    def _go_on(self, unit: UnitOfWork, incident_id: str) -> None:
        """Set the status of an incident from "waiting for approval" to "open"; any other status stays.

        Call this after the approval request was decided or withdrawn.
        """
        if self._timeline.lock(unit, incident_id).status == IncidentStatus.WAITING_APPROVAL:
            repository.change(unit.session, incident_id, {"status": IncidentStatus.OPEN})


def _read(row: Any | None, approval_id: str) -> tuple[ApprovalRequest, Decision | None]:
    if row is None:
        raise ApprovalNotFoundError(approval_id)
    return asked_of(row)


def asked_of(row: Any) -> tuple[ApprovalRequest, Decision | None]:
    """Convert a row of the table of approval requests to the request and the decision on it (None if undecided)."""
    decision = None if row.decision is None else Decision.model_validate(row.decision)
    return ApprovalRequest.model_validate(row.request), decision


def _storable(request: ApprovalRequest) -> ApprovalRequest:
    """Return an approval request with its free texts cut to 2,000 characters each.

    The free texts are the reason of the request, and `why`, `effect` and `runbook` of the plan.

    Raises:
        InvalidInputError: another part of the request is too long or contains invalid characters.
    """
    if not request.approval_id or not is_storable(request.approval_id):
        raise InvalidInputError(
            "approval_id cannot be stored unchanged: it is empty, longer than 200 characters, or contains invalid characters.",
            problems=(("approval_id", "cannot be stored verbatim"),),
        )
    prose = {field: cut(getattr(request.plan, field), 2_000) for field in ("why", "effect", "runbook")}
    shortened = request.model_copy(
        update={"plan": request.plan.model_copy(update=prose), "ground": cut(request.ground, 2_000)}
    )
    # Other parts are not cut, because people must approve exactly the plan that is executed.
    require_exact(shortened.model_dump(mode="json"), "plan", MAX_REQUEST_BYTES)
    return shortened

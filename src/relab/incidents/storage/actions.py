"""Store the actions of the responder.

An action is stored before it is requested, so that a restarted process retries the same action.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from relab.core.errors import InvalidInputError
from relab.incidents.actions.approvals import rejected_by
from relab.incidents.actions.records import ActionRecord, ActionStatus, StoredRepairResult, fingerprint
from relab.incidents.storage import action_repository, coordination_repository
from relab.incidents.storage.approvals import asked_of
from relab.incidents.storage.coordination import ALL_TARGETS
from relab.incidents.storage.errors import (
    ActionConflictError,
    ActionNotFoundError,
    ActionRejectedError,
    IncidentOverError,
    LeaseLostError,
    PausedError,
)
from relab.incidents.storage.models import EventKind, Lease, NewEvent
from relab.incidents.storage.text_limits import cut, is_storable, name_of, require_exact
from relab.incidents.storage.timeline import Timeline, can_be_id
from relab.storage import Database, UnitOfWork

MAX_ACT_TEXT: Final = 2_000
MAX_PARAMETER_BYTES: Final = 16_384
MAX_ACTIONS_PER_READ: Final = 1_000


@dataclass(frozen=True, slots=True)
class StoredAction:
    """The result of `ActionLog.put`.

    Attributes:
        act: the action as stored.
        created: whether this call stored the action; if not, it was stored earlier and may already have a result.
    """

    act: ActionRecord
    created: bool


class ActionLog:
    """Stores and reads the actions of the responder, for all incidents."""

    def __init__(self, database: Database, timeline: Timeline) -> None:
        self._database = database
        self._timeline = timeline

    def put(self, act: ActionRecord, *, lease: Lease | None = None) -> StoredAction:
        """Store an action that is about to be requested; if its key is stored already, return the stored action.

        All checks listed under "Raises" also apply to an action that is stored already but has no result yet.

        Args:
            act: the action to store, with the status `asked`.
            lease: the lease on the target that the caller's process holds; None if the process does not watch a target.

        Raises:
            IncidentNotFoundError: the incident of the action does not exist.
            IncidentOverError: the incident is over.
            PausedError: the responder is paused.
            ActionRejectedError: a person rejected this action on the same part of the service in this incident, and it
                is not a rollback.
            LeaseLostError: another process has acquired the lease.
            ActionConflictError: the key belongs to another action.
            InvalidInputError: the names or the parameters of the action cannot be stored unchanged.
            ValueError: the status of the action is not `asked`.
        """
        if act.status is not ActionStatus.ASKED:
            raise ValueError(f"an action is stored before it is asked for, and this one is {act.status} already")
        # If the action were stored changed, a process that restarts would request a different action.
        act = _storable(act)
        with self._database.write() as unit:
            # This transaction is the last moment at which an action can be stopped.
            incident = self._timeline.lock(unit, act.incident_id)
            stored = action_repository.get_act(unit.session, act.key)
            if stored is not None:
                known = ActionRecord.model_validate(stored)
                _require_same(known, act)
                if known.status is ActionStatus.ASKED:
                    _require_open(incident)
                    _require_leave(unit, incident.target, lease)
                    _require_no_rejection(unit, act)
                return StoredAction(known, created=False)
            _require_open(incident)
            _require_leave(unit, incident.target, lease)
            _require_no_rejection(unit, act)
            content = act.model_dump(mode="json")
            message = f"{act.action} on {act.target} is requested."
            event = NewEvent(EventKind.ACT_ASKED, message, {"act": content})
            events = self._timeline.append_events(unit, act.incident_id, act.asked_at, [event])
            values = {
                "key": act.key,
                "incident_id": act.incident_id,
                "seq": events[0].seq,
                "target": incident.target,
                "status": act.status,
                "asked_at": act.asked_at,
                "content": content,
            }
            action_repository.add_act(unit.session, values)
        return StoredAction(act, created=True)

    def finish(
        self, key: str, status: ActionStatus, *, at_us: int, record_id: str | None = None, error: str | None = None
    ) -> ActionRecord:
        """Store the result of an action, and return the changed action.

        A stored result does not change, except that a success or failure can become `undone` (rolled back). If `status`
        is `asked` (no result yet), or if the action has this status already, only `record_id` is stored.

        Args:
            key: the idempotency key of the action.
            status: the result.
            at_us: the current time, in microseconds since 1970.
            record_id: the id of the action server's record; None keeps the stored id.
            error: why the action did not succeed; None keeps the stored text.

        Raises:
            ActionNotFoundError: no action has this key.
            ActionConflictError: the action already has another result.
        """
        with self._database.write() as unit:
            act = self._locked(unit, key)
            noted = act.record_id if record_id is None else cut(record_id, 200)
            if status is ActionStatus.ASKED or status is act.status:
                changed = act.model_copy(update={"record_id": noted})
                if changed != act:
                    _store(unit, changed)
                return changed
            undoes = status is ActionStatus.UNDONE and act.status in {ActionStatus.SUCCEEDED, ActionStatus.FAILED}
            if act.status is not ActionStatus.ASKED and not undoes:
                raise ActionConflictError(f"{act.action} with the key {key} is {act.status} already, not {status}.")
            said = act.error if error is None else cut(error, MAX_ACT_TEXT)
            changed = act.model_copy(update={"status": status, "record_id": noted, "error": said, "finished_at": at_us})
            self._change(unit, changed, EventKind.ACT_FINISHED, f"{act.action} on {act.target}: {status}.", at_us)
            return changed

    def note_effect(self, key: str, effect: StoredRepairResult, *, at_us: int) -> ActionRecord:
        """Store the effect that verification has found for an action, and return the action.

        `at_us` is the current time, in microseconds since 1970.

        Raises:
            ActionNotFoundError: no action has this key.
        """
        with self._database.write() as unit:
            act = self._locked(unit, key)
            if act.effect is effect:
                return act
            changed = act.model_copy(update={"effect": effect})
            self._change(unit, changed, EventKind.ACT_EFFECT, f"{act.action} on {act.target}: {effect}.", at_us)
            return changed

    def get(self, key: str) -> ActionRecord:
        """Return the action with this idempotency key.

        Raises:
            ActionNotFoundError: no action has this key.
        """
        with self._database.read() as session:
            content = action_repository.get_act(session, key) if is_storable(key) else None
        if content is None:
            raise ActionNotFoundError(key)
        return ActionRecord.model_validate(content)

    def of_incident(self, incident_id: str) -> list[ActionRecord]:
        """Return the actions of an incident, in the order in which they were requested; only the first 1,000."""
        with self._database.read() as session:
            if not can_be_id(incident_id):
                return []
            return _acts(action_repository.acts_of_incident(session, incident_id, MAX_ACTIONS_PER_READ))

    def of_target(self, target: str, *, since_us: int) -> list[ActionRecord]:
        """Return the latest actions on a target, at most 1,000, the oldest of them first.

        These are the actions requested at `since_us` (microseconds since 1970) or later, and earlier actions without a
        result.
        """
        with self._database.read() as session:
            found = action_repository.acts_of_target(session, name_of(target), since_us, MAX_ACTIONS_PER_READ)
        return _acts(found)[::-1]

    def unsettled(self, target: str | None = None) -> list[ActionRecord]:
        """Return the actions on a target (None: on all targets) without a result, the oldest first."""
        with self._database.read() as session:
            return _acts(action_repository.unsettled_acts(session, None if target is None else name_of(target)))

    def _locked(self, unit: UnitOfWork, key: str) -> ActionRecord:
        content = action_repository.get_act(unit.session, key) if is_storable(key) else None
        if content is None:
            raise ActionNotFoundError(key)
        self._timeline.lock(unit, content["incident_id"])
        # Read again: another process may have changed it before this one got the lock.
        content = action_repository.get_act(unit.session, key)
        return ActionRecord.model_validate(content)

    def _change(self, unit: UnitOfWork, act: ActionRecord, kind: EventKind, message: str, at_us: int) -> None:
        _store(unit, act)
        content = {
            "key": act.key,
            "action": act.action,
            "status": act.status,
            "record_id": act.record_id,
            "error": act.error,
            "effect": act.effect,
        }
        self._timeline.append_events(unit, act.incident_id, at_us, [NewEvent(kind, message, content)])


def _store(unit: UnitOfWork, act: ActionRecord) -> None:
    action_repository.change_act(unit.session, act.key, status=act.status, content=act.model_dump(mode="json"))


def _acts(contents: Any) -> list[ActionRecord]:
    return [ActionRecord.model_validate(content) for content in contents]


def _storable(act: ActionRecord) -> ActionRecord:
    """Return an action whose free texts are cut to their maximum lengths.

    Raises:
        InvalidInputError: a field that must not be cut, such as the key or the parameters, cannot be stored unchanged.
    """
    for field in ("key", "action", "target", "action_class"):
        text: str = getattr(act, field)
        if not text or not is_storable(text):
            raise InvalidInputError(
                f"{field} of an action cannot be stored unchanged: it is empty, longer than 200 characters, or "
                "contains invalid characters.",
                problems=((field, "cannot be stored verbatim"),),
            )
    require_exact(act.parameters, "parameters", MAX_PARAMETER_BYTES)
    prose = {
        "cause": cut(act.cause, 200),
        "why": cut(act.why, MAX_ACT_TEXT),
        "error": None if act.error is None else cut(act.error, MAX_ACT_TEXT),
        "approved_by": None if act.approved_by is None else cut(act.approved_by, 200),
    }
    return act.model_copy(update=prose)


def _require_open(incident: Any) -> None:
    if incident.closed_at is not None:
        raise IncidentOverError(incident.incident_id)


def _require_leave(unit: UnitOfWork, target: str, lease: Lease | None) -> None:
    switches = coordination_repository.switches(unit.session, (ALL_TARGETS, target))
    if paused := {row.target for row in switches if row.is_paused}:
        raise PausedError(target, is_alone=ALL_TARGETS not in paused)
    if lease is None:
        return
    # The lock orders a takeover of the loop before this action, which then fails, or after it, so that the new owner sees it.
    row = coordination_repository.get_lease(unit.session, target)
    if row is None or (row.owner, row.term) != (lease.owner, lease.term):
        raise LeaseLostError(target)


def _require_no_rejection(unit: UnitOfWork, act: ActionRecord) -> None:
    if act.undoes is not None:
        return
    asked = map(asked_of, action_repository.approvals_of_incident(unit.session, act.incident_id))
    if by := rejected_by(asked, act.action, act.target):
        raise ActionRejectedError(act.action, by)


def _require_same(known: ActionRecord, act: ActionRecord) -> None:
    is_same = known.incident_id == act.incident_id and known.action == act.action
    if not is_same or fingerprint(known.action, known.parameters) != fingerprint(act.action, act.parameters):
        raise ActionConflictError(
            f"The key {act.key} belongs to {known.action} of the incident {known.incident_id}.",
            remedy="Ask for another action with another attempt.",
        )

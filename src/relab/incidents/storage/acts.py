"""Store the acts of the responder. An act is stored before it is requested, so that after a kill the same one is retried."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from relab.core.errors import InvalidInputError
from relab.incidents.acting.approvals import rejecter_of
from relab.incidents.acting.records import ActRecord, ActStatus, Effect, fingerprint
from relab.incidents.storage import act_repository, agreement_repository
from relab.incidents.storage.agreements import ALL_TARGETS
from relab.incidents.storage.approvals import asked_of
from relab.incidents.storage.errors import (
    ActConflictError,
    ActNotFoundError,
    IncidentOverError,
    LoopLostError,
    PausedError,
    RejectedError,
)
from relab.incidents.storage.models import EventKind, Lease, NewEvent
from relab.incidents.storage.texts import cut, is_storable, name_of, require_exact
from relab.incidents.storage.timeline import Timeline, can_be_id
from relab.storage import Database, UnitOfWork

MOST_ACT_TEXT: Final = 2_000
MOST_PARAMETER_BYTES: Final = 16_384
MOST_ACTS_READ: Final = 1_000


@dataclass(frozen=True, slots=True)
class Put:
    """The result of storing an act.

    Attributes:
        act: the act as stored.
        created: whether it is new; if not, the stored act may already have a result.
    """

    act: ActRecord
    created: bool


class ActLog:
    """The acts of all incidents."""

    def __init__(self, database: Database, timeline: Timeline) -> None:
        self._database = database
        self._timeline = timeline

    def put(self, act: ActRecord, *, lease: Lease | None = None) -> Put:
        """Store an act before it is requested; if the key is known, return the stored act.

        This is the last moment at which a pause, a rejection by a person, or a process that took over the loop can stop the
        act. All three are checked in this transaction, also for a stored act without a result, which would be retried.

        Args:
            act: the act to store, with the status `asked`.
            lease: the lease by which the caller runs the loop of the target; None if it does not run the loop.

        Raises:
            IncidentNotFoundError: no incident has this id.
            IncidentOverError: the incident is over.
            PausedError: the responder is paused.
            RejectedError: a person rejected this action on this part, at any time in this incident.
            LoopLostError: another process runs the loop.
            ActConflictError: the key belongs to another act.
            InvalidInputError: the act cannot be stored unchanged, so a retry after a kill would request another one.
            ValueError: the status of the act is not `asked`.
        """
        if act.status is not ActStatus.ASKED:
            raise ValueError(f"an act is stored before it is asked for, and this one is {act.status} already")
        act = _storable(act)
        with self._database.write() as unit:
            incident = self._timeline.lock(unit, act.incident_id)
            stored = act_repository.get_act(unit.session, act.key)
            if stored is not None:
                known = ActRecord.model_validate(stored)
                _require_same(known, act)
                if known.status is ActStatus.ASKED:
                    _require_open(incident)
                    _require_leave(unit, incident.target, lease)
                    _require_no_rejection(unit, act)
                return Put(known, created=False)
            _require_open(incident)
            _require_leave(unit, incident.target, lease)
            _require_no_rejection(unit, act)
            content = act.model_dump(mode="json")
            message = f"{act.action} on {act.target} is asked for."
            event = NewEvent(EventKind.ACT_ASKED, message, {"act": content})
            told = self._timeline.tell(unit, act.incident_id, act.asked_at, [event])
            values = {
                "key": act.key,
                "incident_id": act.incident_id,
                "seq": told[0].seq,
                "target": incident.target,
                "status": act.status,
                "asked_at": act.asked_at,
                "content": content,
            }
            act_repository.add_act(unit.session, values)
        return Put(act, created=True)

    def finish(
        self, key: str, status: ActStatus, *, at_us: int, record_id: str | None = None, error: str | None = None
    ) -> ActRecord:
        """Store the result of an act. A second call with the same status at most sets `record_id`.

        An act that succeeded or failed can still become `undone`. The status `asked` stores only the id of the server's
        record, as soon as it is known.

        Raises:
            ActNotFoundError: no act has this key.
            ActConflictError: the act already has another result.
        """
        with self._database.write() as unit:
            act = self._locked(unit, key)
            noted = act.record_id if record_id is None else cut(record_id, 200)
            if status is ActStatus.ASKED or status is act.status:
                changed = act.model_copy(update={"record_id": noted})
                if changed != act:
                    _store(unit, changed)
                return changed
            undoes = status is ActStatus.UNDONE and act.status in {ActStatus.SUCCEEDED, ActStatus.FAILED}
            if act.status is not ActStatus.ASKED and not undoes:
                raise ActConflictError(f"{act.action} with the key {key} is {act.status} already, not {status}.")
            said = act.error if error is None else cut(error, MOST_ACT_TEXT)
            changed = act.model_copy(update={"status": status, "record_id": noted, "error": said, "finished_at": at_us})
            self._change(unit, changed, EventKind.ACT_FINISHED, f"{act.action} on {act.target}: {status}.", at_us)
            return changed

    def note_effect(self, key: str, effect: Effect, *, at_us: int) -> ActRecord:
        """Store the effect of an act on users.

        Raises:
            ActNotFoundError: no act has this key.
        """
        with self._database.write() as unit:
            act = self._locked(unit, key)
            if act.effect is effect:
                return act
            changed = act.model_copy(update={"effect": effect})
            self._change(unit, changed, EventKind.ACT_EFFECT, f"{act.action} on {act.target}: {effect}.", at_us)
            return changed

    def get(self, key: str) -> ActRecord:
        """Return an act.

        Raises:
            ActNotFoundError: no act has this key.
        """
        with self._database.read() as session:
            content = act_repository.get_act(session, key) if is_storable(key) else None
        if content is None:
            raise ActNotFoundError(key)
        return ActRecord.model_validate(content)

    def of_incident(self, incident_id: str) -> list[ActRecord]:
        """Return the acts of an incident, in the order in which they were requested."""
        with self._database.read() as session:
            if not can_be_id(incident_id):
                return []
            return _acts(act_repository.acts_of_incident(session, incident_id, MOST_ACTS_READ))

    def of_target(self, target: str, *, since_us: int) -> list[ActRecord]:
        """Return the acts on a service since a time, and older ones without a result, the oldest first; the latest 1,000."""
        with self._database.read() as session:
            found = act_repository.acts_of_target(session, name_of(target), since_us, MOST_ACTS_READ)
        return _acts(found)[::-1]

    def unsettled(self, target: str | None = None) -> list[ActRecord]:
        """Return the acts without a result, the oldest first: after a kill each is retried with its key."""
        with self._database.read() as session:
            return _acts(act_repository.unsettled_acts(session, None if target is None else name_of(target)))

    def _locked(self, unit: UnitOfWork, key: str) -> ActRecord:
        content = act_repository.get_act(unit.session, key) if is_storable(key) else None
        if content is None:
            raise ActNotFoundError(key)
        self._timeline.lock(unit, content["incident_id"])
        # Read again: another process may have changed it before this one got the lock.
        content = act_repository.get_act(unit.session, key)
        return ActRecord.model_validate(content)

    def _change(self, unit: UnitOfWork, act: ActRecord, kind: EventKind, message: str, at_us: int) -> None:
        _store(unit, act)
        content = {
            "key": act.key,
            "action": act.action,
            "status": act.status,
            "record_id": act.record_id,
            "error": act.error,
            "effect": act.effect,
        }
        self._timeline.tell(unit, act.incident_id, at_us, [NewEvent(kind, message, content)])


def _store(unit: UnitOfWork, act: ActRecord) -> None:
    act_repository.change_act(unit.session, act.key, status=act.status, content=act.model_dump(mode="json"))


def _acts(contents: Any) -> list[ActRecord]:
    return [ActRecord.model_validate(content) for content in contents]


def _storable(act: ActRecord) -> ActRecord:
    """Return an act with its free texts cut; raise if any other field cannot be stored unchanged."""
    for field in ("key", "action", "target", "action_class"):
        text: str = getattr(act, field)
        if not text or not is_storable(text):
            raise InvalidInputError(
                f"{field} of an act cannot be stored word for word: it is empty, longer than 200 characters, or holds "
                "odd characters.",
                problems=((field, "cannot be stored word for word"),),
            )
    require_exact(act.parameters, "parameters", MOST_PARAMETER_BYTES)
    prose = {
        "cause": cut(act.cause, 200),
        "why": cut(act.why, MOST_ACT_TEXT),
        "error": None if act.error is None else cut(act.error, MOST_ACT_TEXT),
        "approved_by": None if act.approved_by is None else cut(act.approved_by, 200),
    }
    return act.model_copy(update=prose)


def _require_open(incident: Any) -> None:
    if incident.closed_at is not None:
        raise IncidentOverError(incident.incident_id)


def _require_leave(unit: UnitOfWork, target: str, lease: Lease | None) -> None:
    if any(row.is_paused for row in agreement_repository.switches(unit.session, (ALL_TARGETS, target))):
        raise PausedError(target)
    if lease is None:
        return
    # The lock orders a takeover of the loop before this act, which then fails, or after it, so that the new owner sees it.
    row = agreement_repository.get_lease(unit.session, target, is_locked=True)
    if row is None or (row.owner, row.term) != (lease.owner, lease.term):
        raise LoopLostError(target)


def _require_no_rejection(unit: UnitOfWork, act: ActRecord) -> None:
    if act.undoes is not None:
        return
    asked = map(asked_of, act_repository.approvals_of_incident(unit.session, act.incident_id))
    if by := rejecter_of(asked, act.action, act.target):
        raise RejectedError(act.action, by)


def _require_same(known: ActRecord, act: ActRecord) -> None:
    is_same = known.incident_id == act.incident_id and known.action == act.action
    if not is_same or fingerprint(known.action, known.parameters) != fingerprint(act.action, act.parameters):
        raise ActConflictError(
            f"The key {act.key} belongs to {known.action} of the incident {known.incident_id}.",
            remedy="Ask for another act with another attempt.",
        )

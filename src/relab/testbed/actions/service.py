"""Perform and undo actions: check a request, admit it, record it, perform the action, and record its result."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from pydantic import ValidationError

from relab.core.clock import Clock, format_time
from relab.core.errors import RelabError
from relab.core.ids import new_id
from relab.core.json import canonical_json
from relab.core.validation import problems_of
from relab.testbed.actions.audit import AuditLog
from relab.testbed.actions.guard import Guard
from relab.testbed.actions.models import (
    Action,
    ActionParameters,
    ActionRequest,
    InProgressError,
    NotReversibleError,
    Record,
    StalePreconditionError,
    Status,
    UnknownActionError,
    WrongParametersError,
)

MAX_KEY = 200
MAX_ERROR = 2_000


class Operation(Protocol):
    """Performs, checks and undoes one action of the catalogue."""

    @property
    def action(self) -> Action:
        """The name and description of the action, as the catalogue lists it."""
        ...

    def look(self, parameters: ActionParameters) -> dict[str, Any]:
        """Check the preconditions of the action, and return the state that the action would change; change nothing.

        The keys of the result depend on the action.

        Raises:
            PreconditionError: the action would be useless or harmful in this state.
        """
        ...

    def act(self, parameters: ActionParameters, before: Mapping[str, Any]) -> dict[str, Any]:
        """Perform the action and return the changes; the keys of the result depend on the action.

        Args:
            parameters: the validated parameters of the action.
            before: the state immediately before the action, as `look` returned it.
        """
        ...

    def undo(self, parameters: ActionParameters, before: Mapping[str, Any]) -> dict[str, Any]:
        """Undo the action: restore the state `before`, and return the changes.

        Args:
            parameters: the parameters with which the action was performed.
            before: the state before the action, as `look` returned it.

        Raises:
            NotReversibleError: the action cannot be undone.
        """
        ...


@dataclass(frozen=True)
class ActionResult:
    """The answer to a request for an action.

    Attributes:
        action: name of the action.
        record: the record of the action; None for a dry run.
        before: the state immediately before the action; for a dry run, the current state.
        replayed: whether `record` is the record of an earlier request with the same idempotency key. If True, this
            request has changed nothing.
    """

    action: str
    record: Record | None
    before: Mapping[str, Any] = field(default_factory=dict)
    replayed: bool = False

    def to_json(self) -> dict[str, Any]:
        """Return the body of the API's response: `ok` (whether the action succeeded), `action`, `replayed`, `record`.

        For a dry run, the body has `ok` (true), `action`, `dry_run` and `before` (the state that the action would
        change).
        """
        if self.record is None:
            return {"ok": True, "action": self.action, "dry_run": True, "before": dict(self.before)}
        done = self.record.status in {Status.SUCCEEDED, Status.UNDONE}
        return {"ok": done, "action": self.action, "replayed": self.replayed, "record": self.record.to_json()}


class ActionService:
    """Lists, performs and undoes the actions of one testbed.

    Args:
        operations: the implementations of all actions of the catalogue.
        audit: stores the records of the actions.
        guard: decides which actions are admitted.
        clock: provides the time for records.
    """

    def __init__(self, operations: Sequence[Operation], audit: AuditLog, guard: Guard, clock: Clock) -> None:
        self._operations = {operation.action.name: operation for operation in operations}
        self._audit = audit
        self._guard = guard
        self._clock = clock

    @property
    def guard(self) -> Guard:
        """The guard, which decides whether an action is admitted."""
        return self._guard

    @property
    def audit(self) -> AuditLog:
        """The audit log of the actions."""
        return self._audit

    def forget(self) -> None:
        """Begin an episode (one test of a responder), and turn the kill switch off.

        Earlier actions are no longer listed, and no longer count for the rate limits. The audit file keeps the records
        of these actions.
        """
        self._audit.begin_episode(format_time(self._clock.now_us()))

    def switch(self, *, stopped: bool, by: str) -> None:
        """Turn the kill switch on or off; while it is on, all actions that change anything are rejected.

        Args:
            stopped: True to turn the kill switch on, False to turn it off.
            by: name of the caller's token, for the audit log.

        Raises:
            OSError: the change cannot be written to the audit file. If `stopped` is False, the switch does not change.
                If `stopped` is True, the switch is on, but only until the server stops.
        """
        self._audit.switch(stopped=stopped, by=by, at=format_time(self._clock.now_us()))

    def catalogue(self) -> list[dict[str, Any]]:
        """Return all actions of the catalogue as JSON (`Action.to_json`)."""
        return [operation.action.to_json() for operation in self._operations.values()]

    def action(self, name: str) -> Action:
        """Return the action with this name from the catalogue.

        Raises:
            UnknownActionError: no action has this name.
        """
        return self._operation(name).action

    def perform(
        self,
        name: str,
        given: Mapping[str, Any],
        *,
        actor: str,
        key: str | None = None,
        dry_run: bool = False,
        if_state: str | None = None,
    ) -> ActionResult:
        """Perform an action and return the result with its record. If the action fails, the record's status is `failed`.

        Args:
            name: the name of the action.
            given: the action's parameters by name, not yet validated.
            actor: the name of the caller's token.
            key: the caller's `Idempotency-Key`, or None. If an earlier request of the same caller had this key, the
                action is not performed again, and the record of the earlier request is returned.
            dry_run: do all checks, but change nothing. Earlier requests with the same key are ignored, and the result has
                no record.
            if_state: the state digest from a dry run (`before["state_digest"]`); None accepts any state.

        Raises:
            UnknownActionError: no action has this name.
            WrongParametersError: the parameters are invalid for the action, or `key` is empty, too long or unprintable.
            KeyReusedError: the key was used for a request with another action or other parameters.
            StalePreconditionError: the current state has another digest than `if_state`.
            PreconditionError: the action would be useless or harmful in the current state.
            KillSwitchError: the kill switch is on.
            InProgressError: another action on the same part of the service is in progress.
            TooManyActionsError: a rate limit is reached, or the cooldown has not ended.
            UnavailableError: a component does not answer, so the state before the action cannot be read.
            OSError: the record cannot be written.
        """
        operation = self._operation(name)
        parameters = _parameters(operation.action, given)
        request = ActionRequest(
            operation.action,
            parameters,
            actor,
            self._clock.now_us(),
            _key(key),
            hashlib.sha256(canonical_json([name, parameters.model_dump(mode="json")]).encode()).hexdigest(),
        )
        if dry_run:
            self._guard.check(request)
            return ActionResult(name, None, self._look(operation, parameters, if_state))
        replayed = self._replayed(request)
        if replayed is not None:
            return replayed
        with self._guard.admitted(request):
            # Once more: a request with the same key may have ended since.
            replayed = self._replayed(request)
            if replayed is not None:
                return replayed
            before = self._look(operation, parameters, if_state)
            record = self._record(request, before)
            return ActionResult(name, self._finish(record, lambda: operation.act(parameters, before)), before)

    def undo(self, record_id: str, *, actor: str) -> ActionResult:
        """Undo an action: restore the state from before the action; return the result with the record of the undo.

        If the undo fails, no error is raised, and the status of its record is `failed`.

        Args:
            record_id: the id of the record of the action.
            actor: the name of the caller's token.

        Raises:
            UnknownRecordError: no record has this id.
            NotReversibleError: the action has no inverse, is itself an undo, or was already undone.
            KillSwitchError: the kill switch is on.
            InProgressError: another action on the same part of the service is in progress.
            OSError: the record cannot be written.
        """
        undone = self._audit.get(record_id)
        operation = self._operation(undone.action)
        _check_reversible(undone, operation.action)
        parameters = _parameters(operation.action, undone.parameters)
        request = ActionRequest(operation.action, parameters, actor, self._clock.now_us(), is_undo=True)
        with self._guard.admitted(request):
            # Once more: another request may have undone the action since.
            _check_reversible(undone, operation.action)
            record = self._record(request, dict(undone.after), undoes=undone.record_id)
            self._finish(record, lambda: operation.undo(parameters, undone.before))
            if record.status is Status.SUCCEEDED:
                undone.status, undone.undone_by = Status.UNDONE, record.record_id
                self._audit.write(undone)
        return ActionResult(undone.action, record, record.before)

    def _operation(self, name: str) -> Operation:
        found = self._operations.get(name)
        if found is None:
            raise UnknownActionError(f"There is no action {name[:100]!r}.", remedy="GET /actions lists them.")
        return found

    def _replayed(self, request: ActionRequest) -> ActionResult | None:
        """Return the result of the earlier request with the same caller and key as `request`; None if there was none.

        Raises:
            KeyReusedError: the earlier request was for another action, or had other parameters.
            InProgressError: the earlier request is still running.
        """
        known = self._guard.known(request)
        if known is None:
            return None
        if known.status is Status.STARTED:
            raise InProgressError(
                f"{known.action!r} is already running on {known.part!r}, by a request with the same key."
            )
        return ActionResult(known.action, known, known.before, replayed=True)

    def _look(self, operation: Operation, parameters: ActionParameters, if_state: str | None) -> dict[str, Any]:
        before = operation.look(parameters)
        digest = state_digest(before)
        if if_state is not None and not hmac.compare_digest(digest.encode(), if_state.encode("utf-8", "replace")):
            raise StalePreconditionError(
                f"The state that {operation.action.name!r} depends on has changed since the caller read it.",
                remedy="Read the state again (dry_run=true) and decide again.",
            )
        return {**before, "state_digest": digest}

    def _record(self, request: ActionRequest, before: dict[str, Any], undoes: str | None = None) -> Record:
        record = Record(
            record_id=new_id(),
            action=request.action.name,
            parameters=request.parameters.model_dump(mode="json"),
            actor=request.actor,
            part=request.part,
            requested_at=format_time(request.at_us),
            key=request.key,
            fingerprint=request.fingerprint,
            before=before,
            undoes=undoes,
        )
        # If the record cannot be written, the action is not performed.
        self._audit.write(record)
        return record

    def _finish(self, record: Record, act: Callable[[], dict[str, Any]]) -> Record:
        status, problem = Status.FAILED, "the server failed"
        try:
            record.after = act()
            status, problem = Status.SUCCEEDED, ""
        except (RelabError, OSError) as error:
            problem = str(error)[:MAX_ERROR]
        finally:
            record.status, record.error = status, problem or None
            # Also after an internal error: how far the action got is unknown, but the attempt must be recorded.
            record.completed_at = format_time(self._clock.now_us())
            self._audit.write(record)
        return record


def state_digest(state: Mapping[str, Any]) -> str:
    """Return the SHA-256 digest of a state from `Operation.look`. A key `state_digest` in the state is ignored.

    A caller may send the digest with a later request. If the state has changed, that request is rejected.
    """
    content = {name: value for name, value in state.items() if name != "state_digest"}
    return "sha256:" + hashlib.sha256(canonical_json(content).encode()).hexdigest()


def _check_reversible(undone: Record, action: Action) -> None:
    """Raise NotReversibleError if the action has no inverse, is itself an undo, or was already undone."""
    if undone.undoes is not None or undone.undone_by is not None or action.inverse is None:
        raise NotReversibleError(f"{undone.action!r} cannot be undone, or has already been undone.")


def _parameters(action: Action, given: Mapping[str, Any]) -> ActionParameters:
    try:
        return action.parameters.model_validate(dict(given))
    except ValidationError as error:
        problems = problems_of(error, root="body")
        raise WrongParametersError(
            f"{action.name}: {problems[0][0]}: {problems[0][1]}.",
            problems=problems,
            remedy="GET /actions has the schema.",
        ) from error


def _key(key: str | None) -> str | None:
    if key is None:
        return None
    if not 1 <= len(key) <= MAX_KEY or not key.isprintable():
        raise WrongParametersError(f"An Idempotency-Key has 1 to {MAX_KEY} printable characters.")
    return key

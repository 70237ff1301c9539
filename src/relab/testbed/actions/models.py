"""Data classes and errors of the action server: actions, requests for actions, and records of actions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

from pydantic import BaseModel, ConfigDict

from relab.core.errors import ConflictError, InvalidInputError, NotFoundError, RelabError, UnavailableError

_SERVERS: Final = {"postgres": "database", "redis": "cache"}
WHOLE_SERVICE = "service"
"""The part that is changed by actions that affect the whole service: no other action may run at the same time."""


class ActionClass(StrEnum):
    """The kind of change that an action makes; `read` for an action that changes nothing.

    The scopes of a token decide which kinds of actions its owner may perform.
    """

    READ = "read"
    SESSION = "session"
    RESTART = "restart"
    SETTING = "setting"
    TRAFFIC = "traffic"
    REPAIR = "repair"


class BlastRadius(StrEnum):
    """The worst effect on users while an action runs."""

    NONE = "none"
    SOME_REQUESTS = "some_requests"
    ONE_DEPENDENCY = "one_dependency"
    WHOLE_SERVICE = "whole_service"


class Status(StrEnum):
    """The status of an action in its record.

    `interrupted`: the server stopped while the action was running. `undone`: the action succeeded, and was undone
    later.
    """

    STARTED = "started"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    INTERRUPTED = "interrupted"
    UNDONE = "undone"


class ActionParameters(BaseModel):
    """Base of the parameters of actions; unknown names are rejected."""

    model_config = ConfigDict(extra="forbid", frozen=True, str_max_length=200)


@dataclass(frozen=True, slots=True)
class Action:
    """An action of the catalogue.

    Attributes:
        name: the name of the action in the API.
        title: a short sentence that says what the action does.
        action_class: the kind of change; permissions are granted by class.
        blast_radius: the worst effect on users while the action runs.
        parameters: the class of the action's parameters.
        effect: the expected change, as an operator would see it.
        preconditions: conditions that the server checks before the action, in words.
        inverse: the name of the action that undoes this action; None if it cannot be undone.
        part: the part of the service that the action changes (`target` in JSON); None if the parameters name the part.
        also: further parts of the service that are locked while the action runs.
    """

    name: str
    title: str
    action_class: ActionClass
    blast_radius: BlastRadius
    parameters: type[ActionParameters]
    effect: str
    preconditions: tuple[str, ...] = ()
    inverse: str | None = None
    part: str | None = None
    also: frozenset[str] = frozenset()

    def part_of(self, parameters: ActionParameters) -> str:
        """Return the part of the service that the action changes with these parameters.

        It is the action's own `part`. If that is None, it is the dependency or component that the parameters name. If
        they name neither, it is the whole service (`WHOLE_SERVICE`).
        """
        if self.part is not None:
            return self.part
        found = getattr(parameters, "dependency", None) or getattr(parameters, "component", None)
        return str(found) if found is not None else WHOLE_SERVICE

    def to_json(self) -> dict[str, Any]:
        """Return the action as JSON for the API's catalogue; the key `parameters` has their JSON schema."""
        return {
            "name": self.name,
            "title": self.title,
            "class": self.action_class.value,
            "blast_radius": self.blast_radius.value,
            "parameters": self.parameters.model_json_schema(),
            "effect": self.effect,
            "preconditions": list(self.preconditions),
            "inverse": self.inverse,
            "target": self.part,
        }


def _whole_part(component: str) -> str:
    """Return the part of the service to which a component belongs.

    A worker belongs to `target`, PostgreSQL to `database`, and Redis to `cache`. Any other component is its own part.
    """
    return "target" if component.startswith("worker") else _SERVERS.get(component, component)


@dataclass(frozen=True, slots=True)
class ActionRequest:
    """A request for an action.

    Attributes:
        action: the action of the catalogue.
        parameters: the validated parameters of the action.
        actor: the name of the caller's token.
        at_us: time of the request, in microseconds since 1970.
        key: the `Idempotency-Key`; None if the caller gave none.
        fingerprint: a digest of the action's name and parameters. Two requests with the same key must have the same
            fingerprint.
        is_undo: whether this is a request to undo the action; undos are exempt from the rate limits.
    """

    action: Action
    parameters: ActionParameters
    actor: str
    at_us: int
    key: str | None = None
    fingerprint: str = ""
    is_undo: bool = False

    @property
    def part(self) -> str:
        """The part of the service that the action would change."""
        return self.action.part_of(self.parameters)

    @property
    def parts(self) -> frozenset[str]:
        """All parts of the service that are locked while the action runs; no other action may change these parts.

        They are `part`, the part that contains it (`target` for a worker), and the action's `also`.
        """
        return frozenset({self.part, _whole_part(self.part), *self.action.also})


@dataclass(slots=True)
class Record:
    """The record of one requested action; it is written before the action starts, and again when the action ends.

    Attributes:
        record_id: identifies the record.
        action: name of the action.
        parameters: the action's parameters, by name.
        actor: name of the caller's token.
        part: the part of the service that the action changes.
        requested_at, completed_at: RFC 3339; `completed_at` is None while the action runs.
        status: whether the action runs, or how it ended.
        key: the caller's `Idempotency-Key`; None if the caller gave none.
        fingerprint: a digest of the action's name and parameters.
        before: the state before the action; an undo restores it.
        after: the changes that the action has made.
        error: why the action failed; None if it did not fail.
        undoes: for an undo, the id of the undone record; else None.
        undone_by: the id of the undo's record; None if the action was not undone.
    """

    record_id: str
    action: str
    parameters: Mapping[str, Any]
    actor: str
    part: str
    requested_at: str
    status: Status = Status.STARTED
    key: str | None = None
    fingerprint: str = ""
    before: dict[str, Any] = field(default_factory=dict)
    after: dict[str, Any] = field(default_factory=dict)
    error: str | None = None
    completed_at: str | None = None
    undoes: str | None = None
    undone_by: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the record as JSON for the audit log and the API; the attribute `part` gets the key `target`."""
        found = {name: getattr(self, name) for name in self.__slots__} | {"status": self.status.value}
        return {("target" if name == "part" else name): value for name, value in found.items()}

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Record:
        """Return the record that a JSON object describes; this is the inverse of `to_json`."""
        fields = {("part" if name == "target" else name): value for name, value in document.items()}
        return cls(**{**fields, "status": Status(document["status"])})


class UnknownActionError(NotFoundError):
    """No action of the catalogue has this name."""

    code = "unknown_action"


class UnknownRecordError(NotFoundError):
    """No record of an action has this id."""

    code = "unknown_record"


class WrongParametersError(InvalidInputError):
    """The parameters are invalid for the action."""

    code = "wrong_parameters"


class StalePreconditionError(ConflictError):
    """The digest of the current state differs from the digest in the request (`if_state`)."""

    code = "stale_precondition"


class PreconditionError(ConflictError):
    """The action would be useless or harmful in the current state of the service."""

    code = "precondition_failed"


class KeyReusedError(ConflictError):
    """The same Idempotency-Key was used for two different requests."""

    code = "idempotency_key_reused"


class InProgressError(ConflictError):
    """Another action on the same part of the service is in progress."""

    code = "in_progress"


class KillSwitchError(UnavailableError):
    """The kill switch is on: all actions that change anything are rejected."""

    code = "stopped"


class TooManyActionsError(RelabError):
    """A rate limit is reached, or the cooldown of the action has not ended.

    Attributes:
        retry_after_s: seconds until the action may be requested again.
    """

    code = "too_many_actions"

    def __init__(self, message: str, *, retry_after_s: float) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class NotReversibleError(ConflictError):
    """The action has no inverse, is itself an undo, or was already undone."""

    code = "not_reversible"

"""Values of the action server: what an action is, what was asked for, and what is known of it afterwards."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

from pydantic import BaseModel, ConfigDict

from relab.core.errors import ConflictError, InvalidInputError, NotFoundError, RelabError, UnavailableError

_SERVERS: Final = {"postgres": "database", "redis": "cache"}
ALL_TARGETS = "service"
"""The target of actions that touch everything: nothing else may be under way."""


class ActionClass(StrEnum):
    """What kind of change an action is; whoever allows actions allows these."""

    READ = "read"
    SESSION = "session"
    RESTART = "restart"
    SETTING = "setting"
    TRAFFIC = "traffic"
    REPAIR = "repair"


class BlastRadius(StrEnum):
    """What users may notice at worst while an action is under way."""

    NONE = "none"
    SOME_REQUESTS = "some_requests"
    ONE_DEPENDENCY = "one_dependency"
    WHOLE_SERVICE = "whole_service"


class Status(StrEnum):
    """How far an action is. `interrupted`: the server ended between the begin and the end of it."""

    STARTED = "started"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    INTERRUPTED = "interrupted"
    UNDONE = "undone"


class Parameters(BaseModel):
    """What an action takes; unknown names are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, str_max_length=200)


@dataclass(frozen=True, slots=True)
class Action:
    """An action of the catalogue.

    Attributes:
        parameters: what it takes; a schema that callers can read.
        effect: what should be different afterwards, as an operator would see it.
        preconditions: what must hold, in words; each is checked by the server.
        inverse: the action that takes it back, if one can.
        target: the part of the service that it changes, where that does not follow from the parameters.
        also: further parts that nobody else changes meanwhile.
    """

    name: str
    title: str
    action_class: ActionClass
    blast_radius: BlastRadius
    parameters: type[Parameters]
    effect: str
    preconditions: tuple[str, ...] = ()
    inverse: str | None = None
    target: str | None = None
    also: frozenset[str] = frozenset()

    def target_of(self, parameters: Parameters) -> str:
        """Return the part of the service that it changes; one writer at a time may."""
        if self.target is not None:
            return self.target
        found = getattr(parameters, "dependency", None) or getattr(parameters, "component", None)
        return str(found) if found is not None else ALL_TARGETS

    def to_json(self) -> dict[str, Any]:
        """Return the action as the catalogue lists it."""
        return {
            "name": self.name,
            "title": self.title,
            "class": self.action_class.value,
            "blast_radius": self.blast_radius.value,
            "parameters": self.parameters.model_json_schema(),
            "effect": self.effect,
            "preconditions": list(self.preconditions),
            "inverse": self.inverse,
            "target": self.target,
        }


def _part_of(component: str) -> str:
    """Return what a component is a part of, as other actions call it."""
    return "target" if component.startswith("worker") else _SERVERS.get(component, component)


@dataclass(frozen=True, slots=True)
class Request:
    """Somebody wants an action.

    Attributes:
        actor: the name of the token.
        key: the `Idempotency-Key`; None where the caller gave none.
        fingerprint: of action and parameters, so that one key stands for one wish.
        is_undo: whether it takes an action back, which may be done at once and as often as actions were.
    """

    action: Action
    parameters: Parameters
    actor: str
    at_us: int
    key: str | None = None
    dry_run: bool = False
    fingerprint: str = ""
    is_undo: bool = False

    @property
    def target(self) -> str:
        """The part of the service that it would change."""
        return self.action.target_of(self.parameters)

    @property
    def parts(self) -> frozenset[str]:
        """All that nobody else may change meanwhile: a worker is a part of the target, whatever it is called."""
        return frozenset({self.target, _part_of(self.target), *self.action.also})


@dataclass(slots=True)
class Record:
    """What is known of an action: written before it acts, and again when it is over.

    Attributes:
        before: the state that it found, as far as it concerns it; what an undo returns to.
        after: what it has changed, as it says.
        undoes: the record that it takes back.
    """

    record_id: str
    action: str
    parameters: Mapping[str, Any]
    actor: str
    target: str
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
        """Return the record as the audit log and the API have it."""
        return {name: getattr(self, name) for name in self.__slots__} | {"status": self.status.value}


class UnknownActionError(NotFoundError):
    """No action of the catalogue has this name."""

    code = "unknown_action"


class UnknownRecordError(NotFoundError):
    """No action with this id was ever asked for."""

    code = "unknown_record"


class WrongParametersError(InvalidInputError):
    """The parameters are not those of the action."""

    code = "wrong_parameters"


class StalePreconditionError(ConflictError):
    """The service is no longer in the state in which the caller decided."""

    code = "stale_precondition"


class PreconditionError(ConflictError):
    """The action would make no sense, or harm, in the state that the service is in."""

    code = "precondition_failed"


class KeyReusedError(ConflictError):
    """One Idempotency-Key for two different wishes."""

    code = "idempotency_key_reused"


class InProgressError(ConflictError):
    """Another action on the same part of the service is under way."""

    code = "in_progress"


class StoppedError(UnavailableError):
    """The kill switch is on: nobody may change anything."""

    code = "stopped"


class TooManyActionsError(RelabError):
    """The limit of actions in a window, or the pause between two of one kind, is not over.

    Attributes:
        retry_after_s: seconds until it may be asked for again.
    """

    code = "too_many_actions"

    def __init__(self, message: str, *, retry_after_s: float) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class NotReversibleError(ConflictError):
    """The action has no inverse, was undone already, or changed nothing."""

    code = "not_reversible"

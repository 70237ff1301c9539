"""Values of the chaos server: faults, causes, and injections with their phase."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Protocol

from pydantic import BaseModel, ConfigDict, Field

from relab.core.errors import ConflictError, InvalidInputError, NotFoundError, UnavailableError


class Kind(StrEnum):
    """The kind of an event: a fault needs a repair; noise looks alarming and needs none."""

    FAULT = "fault"
    NOISE = "noise"


class Phase(StrEnum):
    """The phase of an injection. There is no `repaired`: that can only be measured on the target."""

    WAITING = "waiting"
    ACTIVE = "active"
    STOPPED = "stopped"
    EXPIRED = "expired"
    FAILED = "failed"


class Parameters(BaseModel):
    """What every fault takes.

    Attributes:
        intensity: 0 to 1, how strong the cause is at its strongest.
        seed: of what is random in it.
        ramp_s: over how many seconds it grows from nothing to its intensity.
        period_s, duty: an intermittent cause is there for `duty` of each period; 0 is without a break.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, str_max_length=100)

    intensity: float = Field(1.0, gt=0, le=1)
    seed: int = Field(0, ge=0, le=2**31 - 1)
    ramp_s: float = Field(0.0, ge=0, le=3_600)
    period_s: float = Field(0.0, ge=0, le=3_600)
    duty: float = Field(0.5, gt=0, lt=1)


class Cause(Protocol):
    """An active cause. `set_level` is called once for a constant cause, repeatedly for a ramp or intermittent one."""

    def set_level(self, level: float) -> None:
        """Set the strength of the cause, from 0 (off) to 1.

        Raises:
            UnavailableError: a component that it works on does not answer.
        """
        ...

    def end(self) -> None:
        """Remove what only the injector can remove; damage that a repair should fix remains."""
        ...


@dataclass(frozen=True, slots=True)
class Symptom:
    """The symptoms of a fault.

    Attributes:
        shows: symptoms in health, metrics and logs, which its look-alikes share.
        tells_apart: the findings of an investigation that occur only with this fault.
    """

    shows: str
    tells_apart: str
    look_alikes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Fault:
    """A fault of the catalogue.

    Attributes:
        needs: of the machine: `root`, `cgroup`, `mount`; empty if it needs none.
        repairs: actions, each of which repairs it permanently.
        harms: actions that do not repair it, although they look plausible.
        can_vary: whether its level may change while it is active.
    """

    name: str
    title: str
    kind: Kind
    parameters: type[Parameters]
    symptom: Symptom
    repairs: tuple[str, ...] = ()
    harms: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()
    can_vary: bool = False

    def to_json(self) -> dict[str, Any]:
        """Return the fault as the catalogue lists it."""
        return {
            "name": self.name,
            "title": self.title,
            "kind": self.kind.value,
            "needs": list(self.needs),
            "can_vary": self.can_vary,
            "shows": self.symptom.shows,
            "tells_apart": self.symptom.tells_apart,
            "look_alikes": list(self.symptom.look_alikes),
            "repairs": list(self.repairs),
            "parameters": self.parameters.model_json_schema(),
        }


@dataclass(slots=True)
class Injection:
    """One injection of a fault.

    Attributes:
        duration_s: time after which it is stopped; None to continue until it is stopped on request.
        began_at: when the cause became active, RFC 3339; None before that.
    """

    injection_id: str
    fault: str
    parameters: dict[str, Any]
    requested_at: str
    delay_s: float = 0.0
    duration_s: float | None = None
    phase: Phase = Phase.WAITING
    began_at: str | None = None
    ended_at: str | None = None
    error: str | None = None
    notes: list[str] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """Return the injection as JSON for the API."""
        return {name: getattr(self, name) for name in self.__slots__} | {"phase": self.phase.value}


class UnknownFaultError(NotFoundError):
    """No fault of the catalogue has this name."""

    code = "unknown_fault"


class UnknownInjectionError(NotFoundError):
    """No injection has this id."""

    code = "unknown_injection"


class WrongFaultParametersError(InvalidInputError):
    """The parameters are invalid for the fault."""

    code = "wrong_parameters"


class AlreadyActiveError(ConflictError):
    """The same fault is already active; two injections of it could not be told apart."""

    code = "already_active"


class AlreadyEndedError(ConflictError):
    """The injection has ended."""

    code = "already_ended"


class NotEndedError(UnavailableError):
    """The injection continues, because a component that it works on does not answer."""

    code = "not_ended"


class NotPossibleHereError(UnavailableError):
    """This machine cannot inject the fault."""

    code = "not_possible_here"

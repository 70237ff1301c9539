"""Values of the chaos server: parameters and symptoms of faults, and injections with their phase."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from relab.core.errors import ConflictError, InvalidInputError, NotFoundError, UnavailableError


class InjectionPhase(StrEnum):
    """The phase of an injection. There is no `repaired`: that can only be measured on the target."""

    WAITING = "waiting"
    ACTIVE = "active"
    STOPPED = "stopped"
    EXPIRED = "expired"
    FAILED = "failed"


class FaultParameters(BaseModel):
    """The parameters of every fault.

    Attributes:
        intensity: 0 to 1, the strength of the fault at its strongest.
        seed: of all random choices that the fault makes.
        ramp_s: time in which it grows from nothing to its intensity.
        period_s, duty: an intermittent fault is on for the share `duty` of each period; with a period of 0 it is
            constant.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, str_max_length=100)

    intensity: float = Field(1.0, gt=0, le=1)
    seed: int = Field(0, ge=0, le=2**31 - 1)
    ramp_s: float = Field(0.0, ge=0, le=3_600)
    period_s: float = Field(0.0, ge=0, le=3_600)
    duty: float = Field(0.5, gt=0, lt=1)


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
class Injection:
    """The state of one injection of a fault at one moment.

    Attributes:
        duration_s: time after which it is stopped; None to continue until it is stopped on request.
        began_at: when the fault became active, RFC 3339; None before that.
        notes: errors that did not end the injection, with their time.
    """

    injection_id: str
    fault: str
    parameters: dict[str, Any]
    requested_at: str
    delay_s: float = 0.0
    duration_s: float | None = None
    phase: InjectionPhase = InjectionPhase.WAITING
    began_at: str | None = None
    ended_at: str | None = None
    error: str | None = None
    notes: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return the injection as JSON for the API."""
        return {name: getattr(self, name) for name in self.__slots__} | {
            "phase": self.phase.value,
            "notes": list(self.notes),
        }

    @property
    def is_open(self) -> bool:
        """Whether it waits or is active."""
        return self.phase in {InjectionPhase.WAITING, InjectionPhase.ACTIVE}


class UnknownFaultError(NotFoundError):
    """The catalogue has no fault or noise event with this name."""

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

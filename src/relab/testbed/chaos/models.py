"""Values of the chaos server: what a fault is, what was asked for, and how far it is."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Protocol

from pydantic import BaseModel, ConfigDict, Field

from relab.core.errors import ConflictError, InvalidInputError, NotFoundError, UnavailableError


class Kind(StrEnum):
    """A fault wants a repair; noise looks alarming and wants none."""

    FAULT = "fault"
    NOISE = "noise"


class Phase(StrEnum):
    """How far an injection is. `repaired` is nobody's word: it is found out by looking at the target."""

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
    """A cause at work. `set_level` is called once for a constant cause, again and again for one that grows or comes and goes."""

    def set_level(self, level: float) -> None:
        """Let the cause be this strong, 0 (not at all) to 1.

        Raises:
            UnavailableError: something that it works on does not answer.
        """
        ...

    def end(self) -> None:
        """Take away what only the injector can; what a repair is for stays as it is."""
        ...


@dataclass(frozen=True, slots=True)
class Symptom:
    """What can be seen of a fault.

    Attributes:
        shows: in health, metrics and logs, as its look-alikes do too.
        tells_apart: what an investigator finds for this one alone.
    """

    shows: str
    tells_apart: str
    look_alikes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Fault:
    """A fault of the catalogue.

    Attributes:
        needs: of the machine: `root`, `cgroup`, `mount`; empty if nothing.
        repairs: actions, each of which mends it for good.
        harms: actions that do not, however plausible they look.
        can_vary: whether its level may change while it is at work.
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
    """A fault that was asked for.

    Attributes:
        duration_s: after which it is stopped; None for as long as nobody stops it.
        began_at: when the cause was brought about, RFC 3339; None while it waits.
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
        """Return the injection as the API has it."""
        return {name: getattr(self, name) for name in self.__slots__} | {"phase": self.phase.value}


class UnknownFaultError(NotFoundError):
    """No fault of the catalogue has this name."""

    code = "unknown_fault"


class UnknownInjectionError(NotFoundError):
    """Nothing was injected under this id."""

    code = "unknown_injection"


class WrongFaultParametersError(InvalidInputError):
    """The parameters are not those of the fault."""

    code = "wrong_parameters"


class AlreadyActiveError(ConflictError):
    """The same fault is at work; two of one kind would not be told apart."""

    code = "already_active"


class AlreadyEndedError(ConflictError):
    """The injection has ended."""

    code = "already_ended"


class NotEndedError(UnavailableError):
    """The injection goes on: something that it works on does not answer."""

    code = "not_ended"


class NotPossibleHereError(UnavailableError):
    """This machine cannot bring the cause about."""

    code = "not_possible_here"

"""Define the data types and the errors of the chaos server. This server injects faults.

The types describe the parameters and symptoms of faults, and the state of injections.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from relab.core.errors import ConflictError, InvalidInputError, NotFoundError, UnavailableError


class InjectionPhase(StrEnum):
    """The phase of an injection.

    - `waiting`: the injection is requested, but its delay has not ended; the fault is not yet active.
    - `active`: the fault is active.
    - `stopped`: the injection ended on request.
    - `expired`: the injection ended after its duration.
    - `failed`: the injection could not begin.
    """

    # A repair is not a phase, because only a measurement of the target can show it.
    WAITING = "waiting"
    ACTIVE = "active"
    STOPPED = "stopped"
    EXPIRED = "expired"
    FAILED = "failed"


class FaultParameters(BaseModel):
    """The parameters that every fault and noise event (harmless event) has; subclasses add their own.

    Attributes:
        intensity: the strength of the fault, above 0 and at most 1.
        seed: the seed of all random choices of the fault.
        ramp_s: time in seconds in which the fault grows from a low strength to `intensity`; 0 to begin at `intensity`.
        period_s: length of one on-off cycle of an intermittent fault, in seconds; 0 for a constant fault.
        duty: share of each period, between 0 and 1, in which an intermittent fault is on.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, str_max_length=100)

    intensity: float = Field(1.0, gt=0, le=1)
    seed: int = Field(0, ge=0, le=2**31 - 1)
    ramp_s: float = Field(0.0, ge=0, le=3_600)
    period_s: float = Field(0.0, ge=0, le=3_600)
    duty: float = Field(0.5, gt=0, lt=1)


@dataclass(frozen=True, slots=True)
class Symptom:
    """The symptoms of a fault, described for people.

    Attributes:
        shows: the symptoms in health, metrics and logs. Other faults (`look_alikes`) show the same symptoms.
        tells_apart: what an investigation finds only with this fault, and not with those in `look_alikes`.
        look_alikes: names of the other faults with the same symptoms.
    """

    shows: str
    tells_apart: str
    look_alikes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Injection:
    """The state of one injection of a fault at one moment; points in time are RFC 3339 text.

    Attributes:
        injection_id: identifies the injection.
        fault: name of the fault or noise event (harmless event).
        parameters: the parameters of the fault as JSON, by name.
        requested_at: when the injection was requested.
        delay_s: time from the request to the beginning of the injection.
        duration_s: time from the beginning until the injection is stopped; None to wait for a request to stop it.
        phase: the phase of the injection, such as `waiting` or `active`.
        began_at: when the fault became active; None before that.
        ended_at: when the injection ended; None before that.
        error: why the injection could not begin; None if it did not fail.
        notes: errors that did not end the injection, with their times.
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
        """Return the injection as a JSON object with the attributes as keys."""
        return {name: getattr(self, name) for name in self.__slots__} | {
            "phase": self.phase.value,
            "notes": list(self.notes),
        }

    @property
    def is_open(self) -> bool:
        """Whether the injection has not ended: it waits for its beginning, or is active."""
        return self.phase in {InjectionPhase.WAITING, InjectionPhase.ACTIVE}


class UnknownFaultError(NotFoundError):
    """The catalogue has no fault or noise event (harmless event) with this name."""

    code = "unknown_fault"


class UnknownInjectionError(NotFoundError):
    """No injection has this id."""

    code = "unknown_injection"


class WrongFaultParametersError(InvalidInputError):
    """The parameters are invalid for the fault."""

    code = "wrong_parameters"


class AlreadyActiveError(ConflictError):
    """An injection of the same fault is already active or waiting."""

    code = "already_active"


class AlreadyEndedError(ConflictError):
    """The injection cannot be stopped, because it has already ended."""

    code = "already_ended"


class NotEndedError(UnavailableError):
    """The injection could not be stopped and continues, for example because a component does not answer."""

    code = "not_ended"


class NotPossibleHereError(UnavailableError):
    """The fault cannot be injected on this machine, because it needs root, control groups or a separate volume."""

    code = "not_possible_here"

"""The base classes of everything that the chaos server can inject: faults, which need a repair, and harmless noise."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from random import Random
from typing import Any, ClassVar, Final, Generic, Literal, Protocol, TypeVar

from pydantic import ValidationError

from relab.core.validation import problems_of
from relab.testbed.chaos.ground import Ground
from relab.testbed.chaos.models import FaultParameters, Symptom, UnknownFaultError, WrongFaultParametersError
from relab.testbed.chaos.presence import Presence

RAMP_STEPS: Final = 10
"""A fault with a ramp grows in this number of equal steps, the first of them at once."""
_GROWING_SHARE: Final = 0.25
_MIN_RAMP_S, _MAX_RAMP_S = 3.0, 12.0
Given = TypeVar("Given", bound=FaultParameters)
InjectableT = TypeVar("InjectableT", bound="Injectable[Any]")


class Injector(Protocol):
    """Performs one injection of a fault or noise event (harmless event): begins it, changes its strength, and ends it.

    `set_level` is called once for a constant fault, and repeatedly for a fault that grows or comes and goes. Calls of
    the methods never overlap.
    """

    def set_level(self, level: float) -> None:
        """Set the strength of the injected fault or noise event (harmless event), from 0 (off) to 1 (full).

        Raises:
            UnavailableError: a component that the injector changes does not answer.
        """
        ...

    def end(self) -> None:
        """End the injection: undo the changes that this injector made, and stop the clients that it started.

        If something else, such as a repair, has changed a value since the injection, keep the new value. Consequences
        of the injection may remain.

        Raises:
            RelabError: the injection has not ended completely; the caller may call this method again.
        """
        ...


class Injectable(ABC, Generic[Given]):
    """A fault or noise event (harmless event) that the chaos server can inject; `Given` is the type of its parameters.

    Attributes:
        kind: `fault` or `noise`.
        name: the name of the event in the URLs of the chaos server and in episodes (tests of a responder).
        title: a description of the problem in one sentence.
        parameters: the class of the parameters.
        symptom: the symptoms of the event, described for people.
        repairs: names of actions; each action alone repairs the fault permanently.
        harms: names of actions that look like a repair, but do not repair the fault.
        needs: what the event requires of the machine: some of `root`, `cgroup` (control groups), `mount` (a separate
            volume for the target).
        can_vary: whether the strength may change during the injection, with a ramp (it grows to its full value) or
            with a period (it switches between on and off).
    """

    kind: ClassVar[Literal["fault", "noise"]]
    name: str
    title: str
    parameters: type[Given]
    symptom: Symptom
    repairs: tuple[str, ...] = ()
    harms: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()
    can_vary: bool = False

    @abstractmethod
    def injector(self, ground: Ground, given: Given) -> Injector:
        """Return a new injector, an object that begins, varies and ends one injection.

        The injector breaks nothing before the first call of `set_level`.

        Args:
            ground: access to the testbed's processes, database, cache, network and flags.
            given: the parameters of the fault or noise event (harmless event).

        Raises:
            UnavailableError: a component that the injector works on does not answer.
        """

    def draw(self, rng: Random) -> dict[str, Any]:  # noqa: ARG002 for subclasses that have something to draw
        """Return random values for some parameters of this fault or noise event (harmless event), by name.

        The other parameters get their defaults. The base class returns {}. A fault that overrides this method must
        choose values with which users notice the fault.
        """
        return {}

    def draw_parameters(self, rng: Random) -> dict[str, Any]:
        """Return random parameters for an episode (one test of a responder), by name.

        The random `seed` is always among them. `read_parameters` accepts the result.
        """
        return {**self.draw(rng), "seed": rng.randrange(1 << 31)}

    def read_parameters(self, given: Mapping[str, Any]) -> Given:
        """Validate parameters, and return them as an instance of the class `self.parameters`.

        Args:
            given: the values, by the names of the parameters.

        Raises:
            WrongFaultParametersError: a parameter is unknown or out of range; or the event cannot vary (`can_vary`),
                but a ramp (rising strength) or a period (switching on and off) is given.
        """
        try:
            found = self.parameters.model_validate(dict(given))
        except ValidationError as error:
            raise self._wrong(problems_of(error, root="body")) from error
        if not self.can_vary and (found.ramp_s > 0 or found.period_s > 0):
            name = "ramp_s" if found.ramp_s > 0 else "period_s"
            raise self._wrong(((name, "this fault is either on or off; it cannot grow or pause"),))
        return found

    def to_json(self) -> dict[str, Any]:
        """Return the catalogue's entry for this fault or noise event (harmless event) as JSON.

        The key `parameters` has the JSON schema of the parameters.
        """
        return {
            "name": self.name,
            "title": self.title,
            "kind": self.kind,
            "needs": list(self.needs),
            "can_vary": self.can_vary,
            "shows": self.symptom.shows,
            "tells_apart": self.symptom.tells_apart,
            "look_alikes": list(self.symptom.look_alikes),
            "repairs": list(self.repairs),
            "parameters": self.parameters.model_json_schema(),
        }

    def _wrong(self, problems: tuple[tuple[str, str], ...]) -> WrongFaultParametersError:
        field, message = problems[0]
        return WrongFaultParametersError(f"{self.name}: {field}: {message}.", problems=problems)


def find_in(catalogue: Mapping[str, InjectableT], name: str) -> InjectableT:
    """Return the fault or noise event (harmless event) with this name.

    Raises:
        UnknownFaultError: the catalogue has none with this name.
    """
    found = catalogue.get(name)
    if found is None:
        raise UnknownFaultError(f"There is no fault {name[:100]!r}.", remedy=f"One of: {', '.join(catalogue)}.")
    return found


class Fault(Injectable[Given]):
    """An event that breaks the service until a repair.

    Attributes:
        cause: the name of the cause in runbooks and in the diagnoses of responders.
        grows: whether the symptoms increase gradually with a ramp (rising strength). `can_vary` says only whether a ramp
            is allowed.
        is_felt: whether users notice the fault at the request rate of episodes (tests of a responder). Episodes use
            only faults that users notice.
        takes_the_machine: whether the fault leaves no processor time to other testbeds on the same machine.
        is_repaired_by_refusals: whether the right repair is to reject excess requests. The score of a responder then
            does not count quick rejections as bad service.
    """

    kind = "fault"
    cause: str
    grows: bool = False
    is_felt: bool = True
    takes_the_machine: bool = False
    is_repaired_by_refusals: bool = False

    @abstractmethod
    def presence(self, ground: Ground, given: Given) -> Presence:
        """Return an object that tests whether the fault is present.

        The caller must call this before the injection, because the object may record the state before it.

        Args:
            ground: access to the testbed's processes, database, cache, network and flags.
            given: the parameters with which the fault will be injected.

        Raises:
            UnavailableError: the state before the injection cannot be read.
        """

    def draw_parameters(self, rng: Random) -> dict[str, Any]:
        """Return random parameters for an episode (one test of a responder), by name.

        The random `seed` is always among them. If the symptoms can grow (`grows`), about a quarter of the results also
        have `ramp_s`, the time in seconds until full intensity.
        """
        found = super().draw_parameters(rng)
        if self.grows and rng.random() < _GROWING_SHARE:
            found["ramp_s"] = round(rng.uniform(_MIN_RAMP_S, _MAX_RAMP_S), 2)
        return found


class Noise(Injectable[Given]):
    """An event that looks alarming, and needs no repair."""

    kind = "noise"


def draw_between(rng: Random, low: float, high: float) -> float:
    """Return a random number from `low` to `high`, rounded to 3 decimal places."""
    return round(rng.uniform(low, high), 3)

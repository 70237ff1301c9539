"""Faults that only note what is done with them: for tests of what surrounds causes."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from relab.core.errors import UnavailableError
from relab.testbed.chaos.models import Cause, Fault, Kind, Parameters, Symptom

SYMPTOM = Symptom("it is wet", "the tap drips")


class Leak:
    """A cause that notes what is done with it."""

    def __init__(self, given: Parameters, log: list[str]) -> None:
        if given.seed == 13:
            raise UnavailableError("There is no tap.")
        self.log, self.breaks, self.clings = log, given.seed == 7, given.seed == 11

    def set_level(self, level: float) -> None:
        self.log.append(f"{level:.2f}")
        if self.breaks and len(self.log) > 1:
            raise UnavailableError("The tap is gone.")

    def end(self) -> None:
        self.log.append("end")
        if self.clings and self.log.count("end") < 3:
            raise UnavailableError("The tap does not answer.")


def leaks(log: list[str]) -> Mapping[str, tuple[Fault, Callable[[Parameters], Cause]]]:
    """Return three faults; one can vary, and one needs what no machine here has."""
    needs: dict[str, tuple[str, ...]] = {"drip": (), "burst": (), "flood": ("cgroup",)}
    return {
        name: (
            Fault(name, name, Kind.FAULT, Parameters, SYMPTOM, needs=needs[name], can_vary=name == "drip"),
            lambda given: Leak(given, log),
        )
        for name in needs
    }

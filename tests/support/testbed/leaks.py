"""Faults whose injectors only log their calls, for tests of the code around injectors."""

from __future__ import annotations

import copy
import threading
from collections.abc import Mapping, Sequence
from typing import Any, cast

from relab.core.errors import UnavailableError
from relab.testbed.chaos.faults.base import Fault
from relab.testbed.chaos.faults.catalogue import find_fault
from relab.testbed.chaos.ground import Ground
from relab.testbed.chaos.manager import ChaosManager
from relab.testbed.chaos.models import FaultParameters, Symptom
from relab.testbed.chaos.presence import Presence
from support.clocks import MovableClock

SYMPTOM = Symptom("it is wet", "the tap drips")
NO_GROUND = cast("Ground", None)
"""The injectors of leaks need no testbed."""


class Leak:
    """An injector that logs its calls; some seeds make a call fail."""

    def __init__(self, given: FaultParameters, log: list[str]) -> None:
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


class SlowLeak(Leak):
    """An injector whose injection blocks until the test sets `may_finish`; `is_at_work` is set meanwhile."""

    def __init__(self, given: FaultParameters, log: list[str]) -> None:
        super().__init__(given, log)
        self.is_at_work, self.may_finish = threading.Event(), threading.Event()

    def set_level(self, level: float) -> None:
        self.is_at_work.set()
        assert self.may_finish.wait(30)
        super().set_level(level)


class StickyLeak(Leak):
    """An injector whose injection fails, and whose undo blocks until the test sets `may_finish`."""

    def __init__(self, given: FaultParameters, log: list[str]) -> None:
        super().__init__(given, log)
        self.is_undoing, self.may_finish = threading.Event(), threading.Event()

    def set_level(self, level: float) -> None:
        super().set_level(level)
        raise UnavailableError("The tap is stuck.")

    def end(self) -> None:
        self.is_undoing.set()
        assert self.may_finish.wait(30)
        super().end()


class LeakFault(Fault[FaultParameters]):
    """A fault with the injector `Leak`."""

    cause = "leak"
    parameters = FaultParameters
    symptom = SYMPTOM

    def __init__(self, name: str, log: list[str], *, needs: tuple[str, ...] = (), can_vary: bool = False) -> None:
        self.name = self.title = name
        self.needs = needs
        self.can_vary = can_vary
        self._log = log

    def injector(self, _ground: Ground, given: FaultParameters) -> Leak:
        return Leak(given, self._log)

    def presence(self, _ground: Ground, _given: FaultParameters) -> Presence:
        return Presence(lambda: True)


class SlowLeakFault(LeakFault):
    """A fault whose injection blocks; `leak` is the last injector."""

    leak: SlowLeak

    def injector(self, _ground: Ground, given: FaultParameters) -> SlowLeak:
        self.leak = SlowLeak(given, self._log)
        return self.leak


class StickyLeakFault(LeakFault):
    """A fault whose injection fails and whose undo blocks; `leak` is the last injector."""

    leak: StickyLeak

    def injector(self, _ground: Ground, given: FaultParameters) -> StickyLeak:
        self.leak = StickyLeak(given, self._log)
        return self.leak


def leaks(log: list[str]) -> Mapping[str, LeakFault]:
    """Return three faults by name; one can vary, and one needs control groups, which are missing here."""
    found = (
        LeakFault("drip", log, can_vary=True),
        LeakFault("burst", log),
        LeakFault("flood", log, needs=("cgroup",)),
    )
    return {fault.name: fault for fault in found}


def leak_manager(log: list[str], **more: LeakFault) -> ChaosManager:
    """Return a chaos manager of `leaks` and more faults, on a machine without control groups."""
    return ChaosManager({**leaks(log), **more}, NO_GROUND, {"cgroup": "there is no control group"}, MovableClock())


def fault_with(name: str, repairs: Sequence[str], harms: Sequence[str] = ()) -> Fault[Any]:
    """Return a fault of the catalogue with other repairs and harmful actions."""
    found = copy.copy(find_fault(name))
    found.repairs, found.harms = tuple(repairs), tuple(harms)
    return found

"""Causes that lie in the target's own processes: stopped ones, leaks, and what they may use."""

from __future__ import annotations

import contextlib
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, Final

from relab.testbed.actions.plant import PlantError
from relab.testbed.chaos.faults.process_rows import (
    DESCRIPTORS,
    HANG,
    MEMORY_LEAK,
    OOM,
    SEARCH_INDEX,
    THROTTLE,
    Growth,
    Memory,
    Quota,
)
from relab.testbed.chaos.ground import Ground, worker_number
from relab.testbed.chaos.manager import Make
from relab.testbed.chaos.models import Fault, Parameters
from relab.testbed.target.process_figures import state_of

_FULL_CPU_PCT: Final = 100.0
_DESCRIPTORS: Final = 256
"""More than a worker needs at the start and with a busy pool, few enough to be used up in no time."""
_LEAST_MB: Final = 1


class Hang:
    """Workers that were stopped by a signal, as many as the level says."""

    def __init__(self, ground: Ground) -> None:
        self._ground = ground
        self._standing = ground.standing("target")
        self._stopped: set[str] = set()
        self._mended: set[str] = set()

    def set_level(self, level: float) -> None:
        """Stop some, and let the others go on; one that somebody has resumed is left alone."""
        pids = self._standing.pids()
        self._mended |= {name for name in self._stopped if name not in pids or state_of(pids[name]) != "stopped"}
        wanted = set(self._standing.share(level))
        for name in self._stopped - wanted - self._mended:
            self._ground.plant.signal(name, "CONT")
        for name in wanted - self._stopped - self._mended:
            self._ground.plant.signal(name, "STOP")
        self._stopped = wanted - self._mended

    def end(self) -> None:
        """Let all of them go on."""
        self.set_level(0.0)


class Flaw:
    """A flaw of the workers' own, switched on in the processes that there are; it goes with them.

    Args:
        op: what switches it on, as the workers' socket takes it.
        what: gives back what was lost, as `release` takes it.
    """

    def __init__(self, ground: Ground, op: Mapping[str, Any], what: str) -> None:
        self._ground = ground
        self._op = op
        self._what = what
        self._standing = ground.standing("target")

    def set_level(self, level: float) -> None:
        """Switch it on in so many workers."""
        for name in self._standing.share(level):
            self._ground.tell_worker(worker_number(name), self._op)

    def end(self) -> None:
        """Give back what is still held."""
        _release(self._ground, self._standing.workers(), self._what)


class MemoryLeak(Flaw):
    """Memory that every worker takes, as fast as the level says, and never gives back."""

    def __init__(self, ground: Ground, given: Growth) -> None:
        super().__init__(ground, {"op": "leak_memory"}, "memory")
        self._given = given

    def set_level(self, level: float) -> None:
        """Let it grow so fast; at 0 it stays as large as it is."""
        given = self._given
        # A leak that has reached its bound does not grow: so it pauses.
        pace = {"mb_per_s": given.mb_per_s * level, "limit_mb": given.limit_mb}
        paused = {"mb_per_s": given.mb_per_s, "limit_mb": _LEAST_MB}
        for number in self._standing.workers():
            self._ground.tell_worker(number, {**self._op, **(pace if level > 0 else paused)})


class LimitChanged(ABC):
    """What workers may use, made less than they need.

    Args:
        limits: of a level above 0.
    """

    def __init__(self, ground: Ground) -> None:
        self._ground = ground
        self._names = [item["name"] for item in ground.plant.components("target")]
        self._before: dict[str, dict[str, Any]] = {}
        self._made: dict[str, dict[str, Any]] = {}

    @abstractmethod
    def limits(self, level: float) -> dict[str, Any]:
        """Return what a worker may use."""

    def set_level(self, level: float) -> None:
        """Limit so many of them; one whose limits somebody has changed since is left alone."""
        if level <= 0:
            self.end()
            return
        wanted = self._names[: max(round(len(self._names) * level), 1)]
        for name in self._left(wanted):
            self._limit(name, self.limits(level))

    def end(self) -> None:
        """Bring back what is still as it was made here."""
        for name in self._left(list(self._made)):
            self._ground.plant.limit(name, self._before[name])
            # An intermittent one knows by this that nobody else has changed them.
            self._made[name] = self._now(name)

    def _limit(self, name: str, limits: Mapping[str, Any]) -> None:
        before = self._ground.change_limits(name, limits)
        self._before.setdefault(name, before)
        self._made[name] = self._now(name)

    def _left(self, names: list[str]) -> list[str]:
        return [name for name in names if name not in self._made or self._made[name] == self._now(name)]

    def _now(self, name: str) -> dict[str, Any]:
        return dict(self._ground.plant.components(name)[0]["limits"])


class Descriptors(LimitChanged):
    """Sockets that workers open and never close, until the process may have no more."""

    def __init__(self, ground: Ground) -> None:
        super().__init__(ground)
        self._standing = ground.standing("target")

    def limits(self, _level: float) -> dict[str, Any]:
        """Return the limit that is soon reached."""
        return {"rlimits": {"nofile": _DESCRIPTORS}}

    def _limit(self, name: str, limits: Mapping[str, Any]) -> None:
        super()._limit(name, limits)
        if name in self._standing.pids():
            self._ground.tell_worker(
                worker_number(name), {"op": "leak_descriptors", "count": _DESCRIPTORS, "keep": True}
            )

    def end(self) -> None:
        """Close what was leaked, and bring back the limit."""
        with contextlib.suppress(PlantError):
            # One that does not answer must not keep the limit from coming back.
            _release(self._ground, self._standing.workers(), "descriptors")
        super().end()


class Throttle(LimitChanged):
    """Less time on the processor than the workers need."""

    def __init__(self, ground: Ground, given: Quota) -> None:
        super().__init__(ground)
        self._given = given

    def set_level(self, level: float) -> None:
        """Limit all of them, the more the stronger."""
        if level <= 0:
            self.end()
            return
        for name in self._left(self._names):
            self._limit(name, self.limits(level))

    def limits(self, level: float) -> dict[str, Any]:
        """Return the quota of one worker."""
        return {"cpu_pct": _FULL_CPU_PCT - (_FULL_CPU_PCT - self._given.cpu_pct) * level}


class TooLittleMemory(LimitChanged):
    """Less memory than a worker needs to start: the kernel kills it, each time again."""

    def __init__(self, ground: Ground, given: Memory) -> None:
        super().__init__(ground)
        self._given = given

    def limits(self, _level: float) -> dict[str, Any]:
        """Return the limit of one worker."""
        return {"memory_mb": self._given.memory_mb}

    def _limit(self, name: str, limits: Mapping[str, Any]) -> None:
        super()._limit(name, limits)
        # What a process had before it came under the limit is not counted; that of the next one is.
        self._ground.plant.signal(name, "KILL")


def _release(ground: Ground, workers: list[int], what: str) -> None:
    failed: list[PlantError] = []
    for number in workers:
        try:
            ground.tell_worker(number, {"op": "release", "what": what})
        except PlantError as error:
            # One that hangs must not keep the others from getting theirs back.
            failed.append(error)
    if failed:
        raise failed[0]


def faults(ground: Ground) -> dict[str, tuple[Fault, Make]]:
    """Return the faults of the target's processes."""

    def leaks_memory(given: Parameters) -> MemoryLeak:
        assert isinstance(given, Growth)
        return MemoryLeak(ground, given)

    def throttles(given: Parameters) -> Throttle:
        assert isinstance(given, Quota)
        return Throttle(ground, given)

    def starves(given: Parameters) -> TooLittleMemory:
        assert isinstance(given, Memory)
        return TooLittleMemory(ground, given)

    found: list[tuple[Fault, Make]] = [
        (HANG, lambda _: Hang(ground)),
        (MEMORY_LEAK, leaks_memory),
        (DESCRIPTORS, lambda _: Descriptors(ground)),
        (THROTTLE, throttles),
        (OOM, starves),
        (SEARCH_INDEX, lambda _: Flaw(ground, {"op": "drop_search_index"}, "search_index")),
    ]
    return {fault.name: (fault, make) for fault, make in found}

"""Faults of the target's processes: stopped processes, leaks, and resource limits."""

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
"""More than a worker needs at its start and with a busy pool, but few enough to be used up quickly."""
_LEAST_MB: Final = 1


class Hang:
    """Workers that are stopped by a signal; the level gives their share."""

    def __init__(self, ground: Ground) -> None:
        self._ground = ground
        self._standing = ground.standing("target")
        self._stopped: set[str] = set()
        self._mended: set[str] = set()

    def set_level(self, level: float) -> None:
        """Stop some workers and resume the others; leave those alone that were resumed or restarted from outside."""
        pids = self._standing.pids()
        self._mended |= {name for name in self._stopped if name not in pids or state_of(pids[name]) != "stopped"}
        wanted = set(self._standing.share(level))
        for name in self._stopped - wanted - self._mended:
            self._ground.plant.signal(name, "CONT")
        for name in wanted - self._stopped - self._mended:
            self._ground.plant.signal(name, "STOP")
        self._stopped = wanted - self._mended

    def end(self) -> None:
        """Resume all workers that are still stopped."""
        self.set_level(0.0)


class Flaw:
    """A defect of the workers, switched on in their current processes; it ends with the process.

    Args:
        op: the order that switches it on, for the workers' socket.
        what: the argument of the order `release` that reverses it.
    """

    def __init__(self, ground: Ground, op: Mapping[str, Any], what: str) -> None:
        self._ground = ground
        self._op = op
        self._what = what
        self._standing = ground.standing("target")

    def set_level(self, level: float) -> None:
        """Switch it on in this share of the workers."""
        for name in self._standing.share(level):
            self._ground.tell_worker(worker_number(name), self._op)

    def end(self) -> None:
        """Release what is still held."""
        _release(self._ground, self._standing.workers(), self._what)


class MemoryLeak(Flaw):
    """A memory leak in every worker; the level sets its speed."""

    def __init__(self, ground: Ground, given: Growth) -> None:
        super().__init__(ground, {"op": "leak_memory"}, "memory")
        self._given = given

    def set_level(self, level: float) -> None:
        """Set the speed of the growth; at level 0 the memory keeps its size."""
        given = self._given
        # A leak does not grow beyond its bound, so the lowest bound pauses it.
        pace = {"mb_per_s": given.mb_per_s * level, "limit_mb": given.limit_mb}
        paused = {"mb_per_s": given.mb_per_s, "limit_mb": _LEAST_MB}
        for number in self._standing.workers():
            self._ground.tell_worker(number, {**self._op, **(pace if level > 0 else paused)})


class LimitChanged(ABC):
    """Limits of workers that are lower than they need.

    Args:
        limits: returns the limits for a level above 0.
    """

    def __init__(self, ground: Ground) -> None:
        self._ground = ground
        self._names = [item["name"] for item in ground.plant.components("target")]
        self._before: dict[str, dict[str, Any]] = {}
        self._made: dict[str, dict[str, Any]] = {}

    @abstractmethod
    def limits(self, level: float) -> dict[str, Any]:
        """Return the limits of one worker."""

    def set_level(self, level: float) -> None:
        """Limit this share of the workers, without those whose limits were changed since from outside."""
        if level <= 0:
            self.end()
            return
        wanted = self._names[: max(round(len(self._names) * level), 1)]
        for name in self._left(wanted):
            self._limit(name, self.limits(level))

    def end(self) -> None:
        """Restore the limits that are still those set here."""
        for name in self._left(list(self._made)):
            self._ground.plant.limit(name, self._before[name])
            # An intermittent cause compares with this to see that the limits were not changed from outside.
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
    """Sockets that workers open and never close, until they reach their limit of descriptors."""

    def __init__(self, ground: Ground) -> None:
        super().__init__(ground)
        self._standing = ground.standing("target")

    def limits(self, _level: float) -> dict[str, Any]:
        """Return a limit of descriptors that is reached soon."""
        return {"rlimits": {"nofile": _DESCRIPTORS}}

    def _limit(self, name: str, limits: Mapping[str, Any]) -> None:
        super()._limit(name, limits)
        if name in self._standing.pids():
            self._ground.tell_worker(
                worker_number(name), {"op": "leak_descriptors", "count": _DESCRIPTORS, "keep": True}
            )

    def end(self) -> None:
        """Close the leaked sockets, and restore the limit."""
        with contextlib.suppress(PlantError):
            # A worker that does not answer must not prevent the restoration of the limit.
            _release(self._ground, self._standing.workers(), "descriptors")
        super().end()


class Throttle(LimitChanged):
    """A CPU quota that is lower than the workers need."""

    def __init__(self, ground: Ground, given: Quota) -> None:
        super().__init__(ground)
        self._given = given

    def set_level(self, level: float) -> None:
        """Limit all workers; a higher level means a lower quota."""
        if level <= 0:
            self.end()
            return
        for name in self._left(self._names):
            self._limit(name, self.limits(level))

    def limits(self, level: float) -> dict[str, Any]:
        """Return the quota of one worker in percent of one CPU."""
        return {"cpu_pct": _FULL_CPU_PCT - (_FULL_CPU_PCT - self._given.cpu_pct) * level}


class TooLittleMemory(LimitChanged):
    """A memory limit below what a worker needs to start, so the kernel kills it again and again."""

    def __init__(self, ground: Ground, given: Memory) -> None:
        super().__init__(ground)
        self._given = given

    def limits(self, _level: float) -> dict[str, Any]:
        """Return the memory limit of one worker."""
        return {"memory_mb": self._given.memory_mb}

    def _limit(self, name: str, limits: Mapping[str, Any]) -> None:
        super()._limit(name, limits)
        # Memory that a process used before it joined the group does not count, so start a new one.
        self._ground.plant.signal(name, "KILL")


def _release(ground: Ground, workers: list[int], what: str) -> None:
    failed: list[PlantError] = []
    for number in workers:
        try:
            ground.tell_worker(number, {"op": "release", "what": what})
        except PlantError as error:
            # A worker that hangs must not prevent the release in the others.
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

"""Faults of the resource limits of the target's workers: too few descriptors, too little processor time or memory."""

from __future__ import annotations

import contextlib
from abc import ABC, abstractmethod
from collections.abc import Mapping
from random import Random
from typing import Any, Final

import psutil
from pydantic import Field

from relab.testbed.actions.plant import PlantError
from relab.testbed.chaos.faults.base import RAMP_STEPS, Fault, draw_between
from relab.testbed.chaos.faults.processes import release, worker_pids
from relab.testbed.chaos.ground import Ground, worker_number
from relab.testbed.chaos.models import FaultParameters, Symptom
from relab.testbed.chaos.presence import Presence

_FULL_CPU_PCT: Final = 100.0
_DESCRIPTORS: Final = 256
"""More than a worker needs at its start and with a busy pool, but few enough to be used up quickly."""
_SPARE_DESCRIPTORS: Final = 8


class Quota(FaultParameters):
    """Parameters of a CPU quota.

    Attributes:
        cpu_pct: the quota of each worker at full strength (level 1), in percent of one processor.
    """

    cpu_pct: float = Field(5.0, ge=1, le=90)

    def at(self, level: float) -> float:
        """Return a worker's CPU quota when the fault has the strength `level`, in percent of one processor.

        The quota is 100 at level 0, `cpu_pct` at level 1, and linear in between.
        """
        return _FULL_CPU_PCT - (_FULL_CPU_PCT - self.cpu_pct) * level

    @property
    def highest(self) -> float:
        """The highest CPU quota that the fault sets for a worker, in percent of one processor.

        It is the quota at the beginning of the fault, because the quota falls during a ramp.
        """
        # During a ramp the quota falls step by step.
        return self.at(self.intensity / RAMP_STEPS if self.ramp_s else self.intensity)


class Memory(FaultParameters):
    """Parameters of a memory limit.

    Attributes:
        memory_mb: the limit of each worker, in MiB.
    """

    memory_mb: float = Field(48.0, ge=16, le=96)


class LimitChanged(ABC):
    """Base of the injectors that set resource limits of the target's workers below the need of a worker.

    Subclasses implement `limits`.

    If something else, such as a repair, changes the limits of a worker, the injector leaves this worker alone.

    Args:
        ground: access to the testbed's processes, database, cache, network and flags.
    """

    def __init__(self, ground: Ground) -> None:
        self._ground = ground
        self._names = [item["name"] for item in ground.plant.components("target")]
        self._before: dict[str, dict[str, Any]] = {}
        self._made: dict[str, dict[str, Any]] = {}

    @abstractmethod
    def limits(self, level: float) -> dict[str, Any]:
        """Return the limits to set for one worker at a level above 0, as `{field of ResourceLimits: value}`."""

    def set_level(self, level: float) -> None:
        """Apply the limits from `limits` to the share `level` (0 to 1) of the workers, at least to one.

        At level 0, restore the limits from before the injection. If something else, such as a repair, has changed
        the limits of a worker, leave this worker alone.
        """
        if level <= 0:
            self.end()
            return
        wanted = self._names[: max(round(len(self._names) * level), 1)]
        for name in self._left(wanted):
            self._limit(name, self.limits(level))

    def end(self) -> None:
        """Restore the limits from before the injection for each worker that still has this injector's limits."""
        for name in list(self._made):
            with self._ground.changing:
                if self._left([name]):
                    self._ground.plant.limit(name, self._before[name])
                    # An intermittent fault sets limits again later, unless something else has changed these limits.
                    self._made[name] = self._now(name)

    def _limit(self, name: str, limits: Mapping[str, Any]) -> None:
        with self._ground.changing:
            before = self._ground.change_limits(name, limits)
            self._before.setdefault(name, before)
            self._made[name] = self._now(name)

    def _left(self, names: list[str]) -> list[str]:
        return [name for name in names if name not in self._made or self._made[name] == self._now(name)]

    def _now(self, name: str) -> dict[str, Any]:
        return dict(self._ground.plant.components(name)[0]["limits"])


class Descriptors(LimitChanged):
    """Injector that lowers the limit of file descriptors of workers, and makes them open sockets up to the limit."""

    def __init__(self, ground: Ground) -> None:
        super().__init__(ground)
        self._standing = ground.standing("target")

    def limits(self, _level: float) -> dict[str, Any]:
        """Return the limit of file descriptors, as `{"rlimits": {"nofile": 256}}`; the level has no influence."""
        return {"rlimits": {"nofile": _DESCRIPTORS}}

    def _limit(self, name: str, limits: Mapping[str, Any]) -> None:
        super()._limit(name, limits)
        if name in self._standing.pids():
            self._ground.order_worker(
                worker_number(name), {"op": "leak_descriptors", "count": _DESCRIPTORS, "keep": True}
            )

    def end(self) -> None:
        """Close the opened sockets. Restore the earlier limits of each worker that still has this injector's limits."""
        with contextlib.suppress(PlantError):
            # A worker that does not answer must not prevent the restoration of the limit.
            release(self._ground, self._standing.workers(), "descriptors")
        super().end()


class Throttle(LimitChanged):
    """Injector that gives each worker of the target a CPU quota that is lower than the worker needs."""

    def __init__(self, ground: Ground, given: Quota) -> None:
        super().__init__(ground)
        self._given = given

    def set_level(self, level: float) -> None:
        """Set the CPU quota of all workers. A higher level means a lower quota.

        At level 0, restore the limits from before the injection.
        """
        if level <= 0:
            self.end()
            return
        for name in self._left(self._names):
            self._limit(name, self.limits(level))

    def limits(self, level: float) -> dict[str, Any]:
        """Return a worker's CPU quota at the strength `level`, as `{"cpu_pct": percent of one processor}`.

        `level` is above 0 and at most 1.
        """
        return {"cpu_pct": self._given.at(level)}


class TooLittleMemory(LimitChanged):
    """Injector that lowers the workers' memory limit so far that the kernel kills the workers repeatedly."""

    def __init__(self, ground: Ground, given: Memory) -> None:
        super().__init__(ground)
        self._given = given

    def limits(self, _level: float) -> dict[str, Any]:
        """Return the memory limit of one worker, as `{"memory_mb": MiB}`; the level has no influence."""
        return {"memory_mb": self._given.memory_mb}

    def _limit(self, name: str, limits: Mapping[str, Any]) -> None:
        super()._limit(name, limits)
        # Memory that a process used before it joined the group does not count, so start a new one.
        self._ground.plant.signal(name, "KILL")


class DescriptorsFault(Fault[FaultParameters]):
    """The fault `descriptors`: workers of the target have no free file descriptors."""

    name = "descriptors"
    title = "The target's workers leak descriptors"
    cause = "descriptor_leak"
    parameters = FaultParameters
    symptom = Symptom(
        "connections to the target are closed, and it can open none",
        "EMFILE in its log, the open descriptors of the process at their limit",
        ("hang", "db_connections", "database_refuse"),
    )
    repairs = ("restart-target", "restart-worker", "raise-limit")
    harms = ("restart-database", "restart-cache")

    def injector(self, ground: Ground, _given: FaultParameters) -> Descriptors:
        """Return an injector that lowers the limit of file descriptors and makes workers open sockets up to this limit.

        `ground` gives access to the testbed's components.
        """
        return Descriptors(ground)

    def presence(self, ground: Ground, _given: FaultParameters) -> Presence:
        """Return an object that tests whether at least one worker has at most 8 file descriptors left.

        `ground` gives access to the testbed's components.
        """
        return Presence(lambda: any(_is_out_of_descriptors(pid) for pid in worker_pids(ground)))

    def draw(self, rng: Random) -> dict[str, Any]:
        """Return a random `intensity`, the share of the affected workers: 0.5 or 1."""
        return {"intensity": rng.choice((0.5, 1.0))}


class ThrottleFault(Fault[Quota]):
    """The fault `cpu_throttle`: a quota gives the target's workers too little processor time."""

    name = "cpu_throttle"
    title = "The CPU quota of the target's workers is too low"
    cause = "cpu_limit"
    parameters = Quota
    symptom = Symptom(
        "every route is slow",
        "the control group of the workers has a quota and counts throttled periods; a restart changes nothing",
        ("cpu_saturation", "hang", "db_slow_query"),
    )
    repairs = ("raise-limit",)
    harms = ("restart-target", "restart-database")
    needs = ("cgroup",)
    can_vary = True
    grows = True

    def injector(self, ground: Ground, given: Quota) -> Throttle:
        """Return an injector that sets a low CPU quota for all workers.

        `ground` gives access to the testbed's components; `given` has the parameters of the fault.
        """
        return Throttle(ground, given)

    def presence(self, ground: Ground, given: Quota) -> Presence:
        """Return an object that tests whether at least one worker has a CPU quota of at most `given.highest`.

        `ground` gives access to the testbed's components; `given` has the parameters of the fault.
        """
        return Presence(lambda: _is_limited(ground, "cpu_pct", given.highest))

    def draw(self, rng: Random) -> dict[str, Any]:
        """Return a random `cpu_pct`: a low CPU quota, in percent of one processor."""
        return {"cpu_pct": draw_between(rng, 3, 9)}


class OutOfMemoryFault(Fault[Memory]):
    """The fault `oom`: the memory limit of the target's workers is so low that the kernel kills them."""

    name = "oom"
    title = "The memory limit of the target's workers is too low"
    cause = "memory_limit"
    parameters = Memory
    symptom = Symptom(
        "workers end again and again",
        "they end by SIGKILL (exit code -9), and the kernel counts processes killed by the OOM killer",
        ("crash_loop", "memory_leak"),
    )
    repairs = ("raise-limit",)
    harms = ("restart-target", "restart-worker", "roll-back-settings")
    needs = ("cgroup",)

    def injector(self, ground: Ground, given: Memory) -> TooLittleMemory:
        """Return an injector that lowers the memory limit of the target's workers.

        The injector then kills these workers, because the limit does not count the memory that they already use.
        `ground` gives access to the testbed's components; `given` has the parameters of the fault.
        """
        return TooLittleMemory(ground, given)

    def presence(self, ground: Ground, given: Memory) -> Presence:
        """Return an object that tests whether at least one worker has a memory limit of at most `given.memory_mb`.

        `ground` gives access to the testbed's components; `given` has the parameters of the fault.
        """
        return Presence(lambda: _is_limited(ground, "memory_mb", given.memory_mb))

    def draw(self, rng: Random) -> dict[str, Any]:
        """Return a random `memory_mb`: a memory limit in MiB below the need of a worker."""
        return {"memory_mb": draw_between(rng, 32, 60)}


def _is_out_of_descriptors(pid: int) -> bool:
    try:
        process = psutil.Process(pid)
        return bool(process.num_fds() >= process.rlimit(psutil.RLIMIT_NOFILE)[0] - _SPARE_DESCRIPTORS)
    except psutil.Error as error:
        raise PlantError(f"Process {pid} cannot be read: {error}.") from error


def _is_limited(ground: Ground, name: str, limit: float) -> bool:
    limits = [item["limits"].get(name) for item in ground.plant.components("target")]
    return any(found is not None and found <= limit for found in limits)

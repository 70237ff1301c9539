"""Faults of the target's processes: stopped processes, leaked memory, and a broken search index."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from random import Random
from typing import Any, Final

from pydantic import Field

from relab.testbed.actions.plant import PlantError
from relab.testbed.chaos.faults.base import Fault
from relab.testbed.chaos.ground import Ground, worker_number
from relab.testbed.chaos.models import FaultParameters, Symptom
from relab.testbed.chaos.presence import Presence
from relab.testbed.target.process_figures import state_of

_MIN_MB: Final = 1
_SHARES: Final = (0.5, 1.0)
"""Of the workers. With two workers, a share of 0.5 is one of them."""


class Growth(FaultParameters):
    """Parameters of a memory leak: the growth of each worker at full intensity, and a bound that spares the machine."""

    mb_per_s: float = Field(20.0, gt=0, le=500)
    limit_mb: int = Field(1_500, ge=64, le=16_384)


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
            self._ground.order_worker(worker_number(name), self._op)

    def end(self) -> None:
        """Release what is still held."""
        release(self._ground, self._standing.workers(), self._what)


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
        paused = {"mb_per_s": given.mb_per_s, "limit_mb": _MIN_MB}
        for number in self._standing.workers():
            self._ground.order_worker(number, {**self._op, **(pace if level > 0 else paused)})


class HangFault(Fault[FaultParameters]):
    """Processes are stopped."""

    name = "hang"
    title = "Workers of the target are stopped"
    cause = "process_stopped"
    parameters = FaultParameters
    symptom = Symptom(
        "connections are accepted and never answered",
        "the process exists in the kernel's state `stopped` and uses no processor time",
        ("cpu_throttle", "crash_loop", "database_blackhole"),
    )
    repairs = ("resume-process", "restart-worker", "restart-target")
    harms = ("restart-database", "restart-cache")
    can_vary = True

    def injector(self, ground: Ground, _given: FaultParameters) -> Hang:
        """Return an injector that stops workers."""
        return Hang(ground)

    def presence(self, ground: Ground, _given: FaultParameters) -> Presence:
        """Return a test of whether a worker is stopped."""
        return Presence(lambda: any(state_of(pid) == "stopped" for pid in worker_pids(ground)))

    def draw(self, rng: Random) -> dict[str, Any]:
        """Draw a share of the workers."""
        return {"intensity": rng.choice(_SHARES)}


class MemoryLeakFault(Fault[Growth]):
    """The memory of the workers grows."""

    name = "memory_leak"
    title = "The target's workers leak memory"
    cause = "memory_leak"
    parameters = Growth
    symptom = Symptom(
        "resident memory of the workers is large",
        "it grows steadily in the same process, whatever the traffic; only a restart ends it",
        ("oom", "descriptors"),
    )
    repairs = ("restart-target", "restart-worker")
    harms = ("raise-limit", "restart-cache", "flush-cache")
    can_vary = True
    grows = True

    def injector(self, ground: Ground, given: Growth) -> MemoryLeak:
        """Return an injector that lets all workers leak."""
        return MemoryLeak(ground, given)

    def presence(self, ground: Ground, _given: Growth) -> Presence:
        """Return a test of whether a worker leaks, or still holds leaked memory."""
        return Presence(lambda: ground.any_worker(lambda status: status["memory_mb"] > 0 or status["memory_growing"]))

    def draw(self, rng: Random) -> dict[str, Any]:
        """Draw the speed of the growth, and its bound."""
        return {"mb_per_s": round(rng.uniform(20, 60), 1), "limit_mb": rng.randrange(500, 900)}


class SearchIndexFault(Fault[FaultParameters]):
    """The search index of a worker is empty."""

    name = "search_index"
    title = "The index in the workers' memory has lost its vectors"
    cause = "search_index_broken"
    parameters = FaultParameters
    symptom = Symptom(
        "searches fall back to the other index",
        "the index holds fewer vectors than there are products; the rules are unchanged",
        ("bad_flags",),
    )
    repairs = ("restart-target", "restart-worker")
    harms = ("restart-database", "recreate-indexes", "flush-cache")

    def injector(self, ground: Ground, _given: FaultParameters) -> Flaw:
        """Return an injector that empties the index of workers."""
        return Flaw(ground, {"op": "drop_search_index"}, "search_index")

    def presence(self, ground: Ground, _given: FaultParameters) -> Presence:
        """Return a test of whether the index of a worker is not ready."""
        return Presence(lambda: ground.any_worker(lambda status: bool(status["search_index"] != "ready")))

    def draw(self, rng: Random) -> dict[str, Any]:
        """Draw a share of the workers."""
        return {"intensity": rng.choice(_SHARES)}


def worker_pids(ground: Ground) -> Iterator[int]:
    """Yield the pids of the target's workers.

    Raises:
        PlantError: a worker has no process now.
    """
    for item in ground.plant.components("target"):
        if item["pid"] is None:
            raise PlantError(f"{item['name']} has no process.")
        yield item["pid"]


def release(ground: Ground, workers: list[int], what: str) -> None:
    """Order workers to release what an earlier order made them hold.

    Raises:
        PlantError: a worker does not answer; all others have released it.
    """
    failed: list[PlantError] = []
    for number in workers:
        try:
            ground.order_worker(number, {"op": "release", "what": what})
        except PlantError as error:
            # A worker that hangs must not prevent the release in the others.
            failed.append(error)
    if failed:
        raise failed[0]

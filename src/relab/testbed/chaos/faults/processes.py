"""Faults of the target's processes: suspended processes, leaked memory, and an empty search index."""

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
"""Shares of the workers that are drawn. With two workers, a share of 0.5 is one of them."""


class Growth(FaultParameters):
    """Parameters of a memory leak.

    Attributes:
        mb_per_s: growth of each worker at full strength (level 1), in MiB per second.
        limit_mb: the most memory that each worker leaks, in MiB.
    """

    mb_per_s: float = Field(20.0, gt=0, le=500)
    limit_mb: int = Field(1_500, ge=64, le=16_384)


class Hang:
    """Injector that suspends workers of the target by SIGSTOP; the level is the share of suspended workers."""

    def __init__(self, ground: Ground) -> None:
        self._ground = ground
        self._standing = ground.standing("target")
        self._stopped: set[str] = set()
        self._mended: set[str] = set()

    def set_level(self, level: float) -> None:
        """Suspend workers by SIGSTOP or resume them, so that the share `level` (0 to 1) of the workers is suspended.

        If something else, such as a repair, has resumed or restarted a worker, leave this worker alone.
        """
        pids = self._standing.pids()
        self._mended |= {name for name in self._stopped if name not in pids or state_of(pids[name]) != "stopped"}
        wanted = set(self._standing.share(level))
        for name in self._stopped - wanted - self._mended:
            self._ground.plant.signal(name, "CONT")
        for name in wanted - self._stopped - self._mended:
            self._ground.plant.signal(name, "STOP")
        self._stopped = wanted - self._mended

    def end(self) -> None:
        """Resume the workers that this injector has suspended. Skip those that something else has resumed or restarted."""
        self.set_level(0.0)


class DefectInjector:
    """Injector that switches on a defect in the target's workers: a resource leak, or the loss of data in memory.

    A worker's defect ends with the worker's process.

    Args:
        ground: access to the testbed's processes, database, cache, network and flags.
        op: the command to a worker that switches the defect on: a JSON object with the command's name as `op`, and its
            arguments.
        what: the name of the defect in the command `release`, which switches the defect off, such as `memory`.
    """

    def __init__(self, ground: Ground, op: Mapping[str, Any], what: str) -> None:
        self._ground = ground
        self._op = op
        self._what = what
        self._standing = ground.standing("target")

    def set_level(self, level: float) -> None:
        """Switch on this injector's defect, such as a memory leak, in the share `level` (0 to 1) of the workers.

        Do nothing at level 0. Skip workers that were restarted since this injector was created.
        """
        for name in self._standing.share(level):
            self._ground.order_worker(worker_number(name), self._op)

    def end(self) -> None:
        """Switch off this injector's defect, such as a memory leak, in each worker.

        Skip workers that were restarted since this injector was created, because a restart ends the defect.
        """
        release(self._ground, self._standing.workers(), self._what)


class MemoryLeak(DefectInjector):
    """Injector that makes every worker leak memory; the level sets the speed of the leak."""

    def __init__(self, ground: Ground, given: Growth) -> None:
        super().__init__(ground, {"op": "leak_memory"}, "memory")
        self._given = given

    def set_level(self, level: float) -> None:
        """Make each worker leak `level` times `mb_per_s` MiB per second. At level 0, stop the leak but keep the memory."""
        given = self._given
        # A leak does not grow beyond its bound, so the lowest bound pauses it.
        pace = {"mb_per_s": given.mb_per_s * level, "limit_mb": given.limit_mb}
        paused = {"mb_per_s": given.mb_per_s, "limit_mb": _MIN_MB}
        for number in self._standing.workers():
            self._ground.order_worker(number, {**self._op, **(pace if level > 0 else paused)})


class HangFault(Fault[FaultParameters]):
    """The fault `hang`: workers of the target are suspended by SIGSTOP, and answer no request."""

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
        """Return an injector that suspends workers by SIGSTOP; its level (0 to 1) is the share to suspend.

        `ground` gives access to the testbed's components.
        """
        return Hang(ground)

    def presence(self, ground: Ground, _given: FaultParameters) -> Presence:
        """Return an object that tests whether at least one worker is suspended (kernel state `stopped`).

        `ground` gives access to the testbed's components.
        """
        return Presence(lambda: any(state_of(pid) == "stopped" for pid in worker_pids(ground)))

    def draw(self, rng: Random) -> dict[str, Any]:
        """Return a random `intensity`: the share of the workers to suspend, 0.5 or 1."""
        return {"intensity": rng.choice(_SHARES)}


class MemoryLeakFault(Fault[Growth]):
    """The fault `memory_leak`: the memory of the target's workers grows steadily."""

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
        """Return an injector that makes all workers leak memory.

        `ground` gives access to the testbed's components; `given` has the parameters of the fault.
        """
        return MemoryLeak(ground, given)

    def presence(self, ground: Ground, _given: Growth) -> Presence:
        """Return an object that tests whether any worker leaks memory, or still holds leaked memory.

        `ground` gives access to the testbed's components.
        """
        return Presence(lambda: ground.any_worker(lambda status: status["memory_mb"] > 0 or status["memory_growing"]))

    def draw(self, rng: Random) -> dict[str, Any]:
        """Return random `mb_per_s` and `limit_mb`.

        `mb_per_s` is the speed of each worker's leak, in MiB per second. `limit_mb` is the most memory that each worker
        leaks, in MiB.
        """
        return {"mb_per_s": round(rng.uniform(20, 60), 1), "limit_mb": rng.randrange(500, 900)}


class SearchIndexFault(Fault[FaultParameters]):
    """The fault `search_index`: workers have lost the vectors of the search index that each keeps in memory."""

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

    def injector(self, ground: Ground, _given: FaultParameters) -> DefectInjector:
        """Return an injector that empties the search index of workers; its level (0 to 1) is the share of affected workers.

        `ground` gives access to the testbed's components.
        """
        return DefectInjector(ground, {"op": "drop_search_index"}, "search_index")

    def presence(self, ground: Ground, _given: FaultParameters) -> Presence:
        """Return an object that tests whether the search index of at least one worker is not ready.

        `ground` gives access to the testbed's components.
        """
        return Presence(lambda: ground.any_worker(lambda status: bool(status["search_index"] != "ready")))

    def draw(self, rng: Random) -> dict[str, Any]:
        """Return a random `intensity`: the share of the workers whose search index is emptied, 0.5 or 1."""
        return {"intensity": rng.choice(_SHARES)}


def worker_pids(ground: Ground) -> Iterator[int]:
    """Yield the process ids of the target's workers; `ground` gives access to the testbed's components.

    Raises:
        PlantError: a worker has no process now.
    """
    for item in ground.plant.components("target"):
        if item["pid"] is None:
            raise PlantError(f"{item['name']} has no process.")
        yield item["pid"]


def release(ground: Ground, workers: list[int], what: str) -> None:
    """Send each worker the command to end a defect, such as a leak of memory.

    Args:
        ground: access to the testbed's processes, database, cache, network and flags.
        workers: numbers of the workers.
        what: the name of the defect, such as `memory` or `descriptors`.

    Raises:
        PlantError: at least one worker does not answer or rejects the command. Each worker was sent the command.
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

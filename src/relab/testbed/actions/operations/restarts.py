"""Actions that restart parts of the service, resume stopped processes, and raise resource limits."""

from __future__ import annotations

import resource
from collections.abc import Mapping
from typing import Any, Final

from pydantic import Field

from relab.testbed.actions.health import TargetHealth
from relab.testbed.actions.models import Action, ActionClass, ActionParameters, BlastRadius, PreconditionError
from relab.testbed.actions.operations.base import Nothing, PlantOperation
from relab.testbed.actions.plant import Plant, PlantError

_OPERATORS: Final = frozenset(("actions", "chaos", "links"))
"""Groups of components that serve operators; they are not part of the service."""
_SEEN = ("name", "state", "pid", "started_at", "restarts", "exit_code")


class WorkerParameters(ActionParameters):
    """Selects a worker (a server process) of the target by its number; `worker-2` has the number 2."""

    worker: int = Field(ge=0, le=63)


class ComponentParameters(ActionParameters):
    """Selects a component of the testbed, or all components of a group, by name, such as `worker-2` or `target`."""

    component: str = Field(pattern=r"^[a-z][a-z0-9-]{0,30}$")


class ComponentLimitParameters(ComponentParameters):
    """New resource limits of a component; an absent limit is not changed.

    Attributes:
        descriptors: the maximum number of open files of each process.
        memory_mb: the maximum memory of all processes together, in MiB.
        cpu_pct: the maximum processor time of all processes together, in percent of one processor.
    """

    descriptors: int | None = Field(None, ge=64, le=1_048_576)
    memory_mb: float | None = Field(None, ge=64, le=65_536)
    cpu_pct: float | None = Field(None, ge=10, le=6_400)


class RestartParameters(ActionParameters):
    """The parameters of `RemediatePool`, the action that frees an exhausted connection pool by restarting the target.

    Attributes:
        escalate_to_db_restart: whether to restart the database too, if the restart of the target does not help.
    """

    escalate_to_db_restart: bool = False


def _components(plant: Plant, name: str, missing: str) -> list[dict[str, Any]]:
    """Return the components with this name or of this group.

    Raises:
        PreconditionError: there are none; `missing` is the message.
    """
    found = plant.components(name)
    if not found:
        raise PreconditionError(missing)
    return found


def _seen(components: list[dict[str, Any]]) -> dict[str, Any]:
    return {"components": [{name: item[name] for name in _SEEN} for item in components]}


class _Restart(PlantOperation[Nothing]):
    """Base of actions that restart a whole group of components; `group` is the name of the group."""

    group: str

    def _find(self, _given: Nothing) -> dict[str, Any]:
        return _seen(_components(self.plant, self.group, f"There is no component of {self.group!r}."))

    def _do(self, _given: Nothing, _before: Mapping[str, Any]) -> dict[str, Any]:
        return _seen(self.plant.restart(self.group))


class RestartTarget(_Restart):
    """The action that restarts all workers of the target at once."""

    group = "target"
    ACTION = Action(
        "restart-target", "Restart the target", ActionClass.RESTART, BlastRadius.WHOLE_SERVICE, Nothing,
        "every worker restarts; its memory (connections, leaks, caches) is released", part="target",
    )  # fmt: skip


class RestartDatabase(_Restart):
    """The action that restarts PostgreSQL, or starts it if it is down."""

    group = "database"
    ACTION = Action(
        "restart-database", "Restart the database", ActionClass.RESTART, BlastRadius.WHOLE_SERVICE, Nothing,
        "every session ends, all locks are released, the server starts with its configuration", part="database",
    )  # fmt: skip


class RestartCache(_Restart):
    """The action that restarts Redis, or starts it if it is down."""

    group = "cache"
    ACTION = Action(
        "restart-cache", "Restart the cache", ActionClass.RESTART, BlastRadius.ONE_DEPENDENCY, Nothing,
        "the cache is empty and has its initial configuration", part="cache",
    )  # fmt: skip


class RestartLinks(_Restart):
    """The action that restarts the links: proxies on the network paths from the target to its dependencies."""

    group = "links"
    ACTION = Action(
        "restart-links", "Restart the network paths to the dependencies", ActionClass.RESTART,
        BlastRadius.WHOLE_SERVICE, Nothing, "every connection to a dependency is reopened", part="links",
    )  # fmt: skip


class RestartWorker(PlantOperation[WorkerParameters]):
    """The action that restarts one worker of the target."""

    ACTION = Action(
        "restart-worker", "Restart one worker of the target", ActionClass.RESTART, BlastRadius.SOME_REQUESTS, WorkerParameters,
        "this worker restarts; the others continue", ("the worker exists",), part="target",
    )  # fmt: skip

    def _find(self, given: WorkerParameters) -> dict[str, Any]:
        missing = f"The target has no worker {given.worker}."
        return _seen(_components(self.plant, f"worker-{given.worker}", missing))

    def _do(self, given: WorkerParameters, _before: Mapping[str, Any]) -> dict[str, Any]:
        return _seen(self.plant.restart(f"worker-{given.worker}"))


class ResumeProcess(PlantOperation[ComponentParameters]):
    """The action that resumes the main process of each selected component, after a signal (SIGSTOP) has stopped it."""

    ACTION = Action(
        "resume-process", "Resume a stopped process", ActionClass.REPAIR, BlastRadius.NONE, ComponentParameters,
        "a process that was stopped by a signal continues", ("the component exists",),
    )  # fmt: skip

    def _find(self, given: ComponentParameters) -> dict[str, Any]:
        return _seen(_components(self.plant, given.component, f"There is no component {given.component!r}."))

    def _do(self, given: ComponentParameters, before: Mapping[str, Any]) -> dict[str, Any]:
        self.plant.signal(given.component, "CONT")
        return {"signalled": [item["name"] for item in before["components"]]}


def _raised(given: ComponentLimitParameters, limits: Mapping[str, Any]) -> dict[str, Any]:
    """Return the requested limits that are higher than the current `limits`, as `{field of ResourceLimits: value}`."""
    # Where a component has no limit of its own, the supervisor's limit applies, as in this process.
    usual, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    rlimits = limits.get("rlimits") or {}
    found: dict[str, Any] = {}
    if given.descriptors is not None and given.descriptors > rlimits.get("nofile", usual):
        found["rlimits"] = {**rlimits, "nofile": given.descriptors}
    # Without a current limit, memory and processor time are unlimited, so that any limit would be lower.
    for name in ("memory_mb", "cpu_pct"):
        current, wanted = limits.get(name), getattr(given, name)
        if current is not None and wanted is not None and wanted > current:
            found[name] = wanted
    return found


class RaiseLimit(PlantOperation[ComponentLimitParameters]):
    """The action that raises resource limits of a component.

    It adds no limit of memory or processor time to a component that has none.
    """

    ACTION = Action(
        "raise-limit", "Raise the resource limits of a component", ActionClass.REPAIR, BlastRadius.NONE, ComponentLimitParameters,
        "the limits apply at once, also to running processes",
        ("the component exists", "it has this limit, with a lower value"), "raise-limit",
    )  # fmt: skip

    def _find(self, given: ComponentLimitParameters) -> dict[str, Any]:
        found = _components(self.plant, given.component, f"There is no component {given.component!r}.")
        if given.descriptors is None and given.memory_mb is None and given.cpu_pct is None:
            raise PreconditionError("No limit is named: descriptors, memory_mb or cpu_pct.")
        for item in found:
            if item["group"] in _OPERATORS:
                raise PreconditionError(f"{item['name']} is what operators work by, and has no limit to be raised.")
        raised = {item["name"]: item["limits"] for item in found if _raised(given, item["limits"])}
        if not raised:
            raise PreconditionError(f"{given.component} has no such limit, or may use as much already.")
        return {"limits": raised}

    def _do(self, given: ComponentLimitParameters, before: Mapping[str, Any]) -> dict[str, Any]:
        return {
            "limits": {
                name: self._set(name, {**_set_ones(limits), **_raised(given, limits)})
                for name, limits in before["limits"].items()
            }
        }

    def _take_back(self, _given: ComponentLimitParameters, before: Mapping[str, Any]) -> dict[str, Any]:
        return {"limits": {name: self._set(name, limits) for name, limits in before["limits"].items()}}

    def _set(self, name: str, limits: Mapping[str, Any]) -> dict[str, Any]:
        found: dict[str, Any] = self.plant.limit(name, limits)[0]["limits"]
        return found


def _set_ones(limits: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in limits.items() if value is not None}


class RemediatePool(PlantOperation[RestartParameters]):
    """The action against an exhausted database connection pool: it restarts the target.

    If this does not help, and if the parameters allow it, the action then restarts the database and the target.
    """

    ACTION = Action(
        "remediate-db-pool-exhaustion", "Restart the target, and the database if needed", ActionClass.RESTART,
        BlastRadius.WHOLE_SERVICE, RestartParameters, "connections that the target's workers held are free again",
    )  # fmt: skip

    def __init__(self, plant: Plant) -> None:
        super().__init__(plant)
        self._health = TargetHealth(plant.target_url)

    def _find(self, _given: RestartParameters) -> dict[str, Any]:
        return _seen([*self.plant.components("target"), *self.plant.components("database")])

    def _do(self, given: RestartParameters, _before: Mapping[str, Any]) -> dict[str, Any]:
        done = ["restart-target"]
        try:
            self.plant.restart("target")
        except PlantError:
            if not given.escalate_to_db_restart:
                raise
        found = self._health.verify()
        is_reached = found["health_status"] is not None and found["pool_health"] not in {None, "critical"}
        if given.escalate_to_db_restart and not is_reached:
            self.plant.restart("database")
            self.plant.restart("target")
            done += ["restart-database", "restart-target"]
            found = self._health.verify()
        return {"steps": done, "health": found}


OPERATIONS = (
    RestartWorker,
    RestartTarget,
    RestartDatabase,
    RestartCache,
    RestartLinks,
    ResumeProcess,
    RaiseLimit,
    RemediatePool,
)

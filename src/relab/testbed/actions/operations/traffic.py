"""Actions that change how many requests the target admits at a time, and which index answers its searches."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field

from relab.testbed.actions.models import Action, ActionClass, ActionParameters, BlastRadius, PreconditionError
from relab.testbed.actions.operations.base import PlantOperation


class FlowParameters(ActionParameters):
    """New values of the target's flow control, which limits admitted requests; an absent value is not changed.

    Attributes:
        policy: how many requests may be in progress: with `fixed`, always `max_concurrency`; with `aimd` (additive
            increase, multiplicative decrease), fewer while the latency is too high.
        target_p95_ms: for `aimd`: the P95 latency that the target should not exceed, in milliseconds.
        max_concurrency: the maximum number of requests in progress, over all workers.
        max_batch_size: the maximum number of searches that are answered together.
        enabled: whether flow control is on. If False, all requests are admitted, and each search is answered alone.
    """

    policy: Literal["aimd", "fixed"] | None = None
    target_p95_ms: float | None = Field(None, ge=1, le=60_000)
    max_concurrency: int | None = Field(None, ge=1, le=1_024)
    max_batch_size: int | None = Field(None, ge=1, le=256)
    enabled: bool | None = None


class RouteParameters(ActionParameters):
    """Selects the index that answers all searches: `faiss` or `qdrant`; with `rules`, the target's rules choose it."""

    backend: Literal["faiss", "qdrant", "rules"]


class SetFlow(PlantOperation[FlowParameters]):
    """The action that changes the target's flow control, which limits the number of admitted requests."""

    ACTION = Action(
        "set-flow-control", "Change how many requests the target admits", ActionClass.TRAFFIC, BlastRadius.SOME_REQUESTS,
        FlowParameters, "requests above the limit get 503 at once; all others are answered in time",
        ("at least one value is given",), "set-flow-control", part="target-flags",
    )  # fmt: skip

    def _find(self, given: FlowParameters) -> dict[str, Any]:
        if not given.model_dump(exclude_none=True):
            raise PreconditionError("Nothing to change is named.")
        return {"control": self.plant.flags()["control"]}

    def _do(self, given: FlowParameters, _before: Mapping[str, Any]) -> dict[str, Any]:
        wanted = given.model_dump(exclude_none=True)
        enabled = wanted.pop("enabled", None)
        if enabled is not None:
            wanted["enabled_actuators"] = ["concurrency", "batch_size"] if enabled else []
        return {"control": self.plant.set_flags({"control": wanted})["control"]}

    def _take_back(self, _given: FlowParameters, before: Mapping[str, Any]) -> dict[str, Any]:
        return {"control": self.plant.set_flags({"control": before["control"]})["control"]}


class SetRoute(PlantOperation[RouteParameters]):
    """The action that chooses the index to which the target sends searches, or lets the target's rules choose it."""

    ACTION = Action(
        "set-search-route", "Choose the index that answers searches", ActionClass.TRAFFIC, BlastRadius.SOME_REQUESTS,
        RouteParameters, "searches go to this index", inverse="set-search-route", part="target-flags",
    )  # fmt: skip

    def _find(self, _given: RouteParameters) -> dict[str, Any]:
        return {"routing": self.plant.flags()["routing"]}

    def _do(self, given: RouteParameters, _before: Mapping[str, Any]) -> dict[str, Any]:
        if given.backend == "rules":
            wanted: dict[str, Any] = {"enabled": True, "policy": "rules"}
        else:
            wanted = {"enabled": False, "manual_backend": given.backend}
        return {"routing": self.plant.set_flags({"routing": wanted})["routing"]}

    def _take_back(self, _given: RouteParameters, before: Mapping[str, Any]) -> dict[str, Any]:
        return {"routing": self.plant.set_flags({"routing": before["routing"]})["routing"]}


OPERATIONS = (SetFlow, SetRoute)

"""The `{control, routing}` document: flow control and search routing of a service, read and changed at run time.

A document is whole and valid; an update names some of its fields. Unknown fields, wrong types and values out
of bounds are refused by name, so that a field that was accepted always took effect.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from relab.core.errors import InvalidInputError
from relab.core.json import JsonValue

ControlPolicy = Literal["aimd", "fixed"]
RoutingPolicy = Literal["rules", "manual"]
Backend = Literal["faiss", "qdrant"]
Actuator = Literal["concurrency", "batch_size"]

ACTUATORS: Final[tuple[Actuator, ...]] = ("concurrency", "batch_size")

TargetP95 = Annotated[float, Field(ge=1, le=60_000)]
MaxConcurrency = Annotated[int, Field(ge=1, le=1_024)]
MaxBatchSize = Annotated[int, Field(ge=1, le=256)]
TopkThreshold = Annotated[int, Field(ge=0, le=10_000)]
Actuators = Annotated[tuple[Actuator, ...], Field(max_length=len(ACTUATORS), strict=False)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class ControlFlags(_Strict):
    """Flow control.

    Attributes:
        policy: `aimd` moves the limit between 1 and `max_concurrency` by the P95; `fixed` keeps it at `max_concurrency`.
        target_p95_ms: the P95 that the limiter keeps, waiting included.
        max_concurrency: how many requests the whole service may work on at once; at least one a worker.
        max_batch_size: how many searches are answered together at most.
        enabled_actuators: what flow control uses. Without `concurrency` there is no limit; without `batch_size`
            each search is answered by itself.
    """

    policy: ControlPolicy = "aimd"
    target_p95_ms: TargetP95 = 1_200.0
    max_concurrency: MaxConcurrency = 32
    max_batch_size: MaxBatchSize = 32
    enabled_actuators: Actuators = ACTUATORS


class RoutingFlags(_Strict):
    """Which index answers a search.

    Attributes:
        enabled: whether the policy decides; otherwise `manual_backend` does.
        policy: `rules` sends a search to FAISS where `top_k <= topk_threshold`, else to Qdrant; `manual` is the
            same as not enabled.
        topk_threshold: in results; 0 sends every search to Qdrant.
        manual_backend: the index where no policy decides; null means Qdrant.
    """

    enabled: bool = True
    policy: RoutingPolicy = "rules"
    topk_threshold: TopkThreshold = 32
    manual_backend: Backend | None = None

    def backend(self, top_k: int) -> Backend:
        """Return the index that answers a search for `top_k` results."""
        if not self.enabled or self.policy == "manual":
            return self.manual_backend or "qdrant"
        return "faiss" if top_k <= self.topk_threshold else "qdrant"


class ServiceFlags(_Strict):
    """The whole document, as it is in force."""

    control: ControlFlags = ControlFlags()
    routing: RoutingFlags = RoutingFlags()

    def updated(self, document: JsonValue) -> ServiceFlags:
        """Return this document with the fields of a partial one in the place of its own.

        A section replaces nothing that it does not name; a list replaces the whole list.

        Raises:
            InvalidInputError: a field is unknown or refused, each named with the reason, or nothing is named.
        """
        if not isinstance(document, dict):
            raise InvalidInputError("The flags are a JSON object with `control`, `routing` or both.")
        if set(document) <= ServiceFlags.model_fields.keys() and not any(document.values()):
            raise InvalidInputError("The update names no flag.", remedy="Give a field of `control` or of `routing`.")
        merged: dict[str, JsonValue] = dict(document)
        for name in ServiceFlags.model_fields:
            given = document.get(name, {})
            # Anything but an object is left for the validation to refuse by its name.
            merged[name] = {**getattr(self, name).model_dump(), **given} if isinstance(given, dict) else given
        try:
            flags = ServiceFlags.model_validate(merged)
        except ValidationError as error:
            problems = tuple(
                (".".join(map(str, item["loc"])), _reason(item["type"], item["msg"])) for item in error.errors()
            )
            named = ", ".join(field for field, _ in problems)
            raise InvalidInputError(f"The flags are not changed; refused: {named}.", problems=problems) from error
        if len(set(flags.control.enabled_actuators)) != len(flags.control.enabled_actuators):
            problem = ("control.enabled_actuators", "names an actuator twice")
            raise InvalidInputError(f"The flags are not changed; refused: {problem[0]}.", problems=(problem,))
        return flags


def _reason(kind: str, message: str) -> str:
    return "there is no such flag" if kind == "extra_forbidden" else message

"""The timeline of a run: its steps, tool calls and guardrail events merged by time.

Items are sorted by time. At the same time, steps come before tool calls, and tool calls before guardrail events. Items
of one kind are then in the order in which they were sent or, if the run was computed from spans, in the order of their
ids. A tool call without a start time is placed at the start of its step, or of the run if its step is not known.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from pydantic_core import from_json, to_json

from relab.core.clock import format_time
from relab.telemetry.models import CALL, EVENT, ITEM_KINDS, STEP, AgentRun, TimelineItem
from relab.telemetry.tables import StoredItem


class Place(NamedTuple):
    """The position of a step, tool call or guardrail event in the timeline of a run, as a sort key, and its latency.

    Attributes:
        at: the time in the timeline, in microseconds since 1970.
        kind: an index of `ITEM_KINDS`.
        position: the index of the item in the run's list of this kind.
        ref_id: the id of the item.
        latency_ms: the latency of the item; None if not known.
    """

    at: int
    kind: int
    position: int
    ref_id: str
    latency_ms: float | None


def place(run: AgentRun) -> Iterator[Place]:
    """Yield the place (with the latency) of every step, call and event in a run's timeline, in no particular order."""
    for position, step in enumerate(run.steps):
        yield Place(step.started_at, STEP, position, step.step_id, step.effective_latency_ms)
    for position, (call, at) in enumerate(zip(run.tool_calls, run.call_starts(), strict=True)):
        yield Place(at, CALL, position, call.call_id, call.effective_latency_ms)
    for position, event in enumerate(run.guardrail_events):
        yield Place(event.created_at, EVENT, position, event.event_id, None)


def present(item: StoredItem) -> TimelineItem:
    """Convert a row of `timeline_items` to the timeline item that the API returns."""
    data = from_json(item.data)
    return TimelineItem.model_validate({**_head(item, data), "at": item.at, "data": data})


def page_json(run_id: str, rows: Sequence[StoredItem], total: int, next_cursor: str | None) -> bytes:
    """Return the JSON of a `TimelinePage` with the items `rows`. `total` is the number of items in the whole timeline.

    Each item has the fields of a `TimelineItem`. The stored JSON text of the item is copied unchanged.
    """
    items = [_item_json(row) for row in rows]
    head = to_json({"run_id": run_id}).decode().removesuffix("}")
    tail = to_json({"total": total, "next_cursor": next_cursor}).decode().removeprefix("{")
    return f'{head},"items":[{",".join(items)}],{tail}'.encode()


def _head(item: StoredItem, data: dict[str, Any]) -> dict[str, Any]:
    kind = ITEM_KINDS[item.kind]
    return {
        "kind": kind.name.value,
        "ref_id": item.ref_id,
        "at": format_time(item.at),
        "step_id": item.ref_id if item.kind == STEP else data.get("step_id"),
        "call_id": item.ref_id if item.kind == CALL else _text(data.get("call_id")),
        "title": data[kind.title_field],
        "status": _text(data.get("status")),
    }


def _text(value: Any) -> str | None:
    """Return `value` if it is a text, else None: an additional field, such as `call_id` of a step, may have any type."""
    return value if isinstance(value, str) else None


def _item_json(item: StoredItem) -> str:
    head = to_json(_head(item, from_json(item.data))).decode()
    return f'{head.removesuffix("}")},"data":{item.data}}}'

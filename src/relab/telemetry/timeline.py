"""The timeline of a run: its steps, tool calls and guardrail events merged by time.

The order is total and stable: by time, then steps before calls before events, then in the
order in which they were sent. A tool call without a start time is placed at the start
of its step, or at the start of the run if its step is not known.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic_core import from_json, to_json

from relab.core.clock import format_time
from relab.telemetry.models import AgentRun, GuardrailEvent, Step, TimelineItem, TimelineKind, ToolCall

KINDS = (TimelineKind.STEP, TimelineKind.TOOL_CALL, TimelineKind.GUARDRAIL_EVENT)
"""The index of a kind is its rank in the sort order and its value in the database."""

_KIND_NAMES = tuple(kind.value for kind in KINDS)
_TITLES = ("name", "tool_name", "type")
"""The field, for each kind, that is the title of an item."""


@dataclass(frozen=True, slots=True)
class Placed:
    """An object of a run with its position in the timeline; `kind` is an index into `KINDS`."""

    at: int
    kind: int
    position: int
    ref_id: str
    item: Step | ToolCall | GuardrailEvent

    @property
    def latency_ms(self) -> float | None:
        """The latency of a step or a call, in ms; None for an event, or if the latency is not known."""
        if isinstance(self.item, Step):
            return self.item.effective_latency_ms
        return self.item.latency_ms if isinstance(self.item, ToolCall) else None


def place(run: AgentRun) -> Iterator[Placed]:
    """Yield every step, call and event of the run with its position in the timeline, in no particular order."""
    step_starts = {step.step_id: step.started_at for step in run.steps}
    for position, step in enumerate(run.steps):
        yield Placed(step.started_at, 0, position, step.step_id, step)
    for position, call in enumerate(run.tool_calls):
        at = call.started_at
        if at is None:
            at = step_starts.get(call.step_id or "", run.started_at)
        yield Placed(at, 1, position, call.call_id, call)
    for position, event in enumerate(run.guardrail_events):
        yield Placed(event.created_at, 2, position, event.event_id, event)


def present(at: int, kind: int, ref_id: str, data: Mapping[str, Any]) -> TimelineItem:
    """Return the timeline item for one stored object."""
    return TimelineItem(
        kind=KINDS[kind],
        ref_id=ref_id,
        at=at,
        step_id=ref_id if kind == 0 else data.get("step_id"),
        call_id=ref_id if kind == 1 else data.get("call_id"),
        title=str(data[_TITLES[kind]]),
        status=data.get("status"),
        data=dict(data),
    )


def page_json(run_id: str, rows: Sequence[Any], total: int, next_cursor: str | None) -> bytes:
    """Return the JSON of a `TimelinePage` for stored rows `(at, kind, position, ref_id, data as JSON text)`.

    Each item has the same fields as the result of `present`; the stored JSON text of the item is copied unchanged.
    """
    items = [_item_json(at, kind, ref_id, text) for at, kind, _, ref_id, text in rows]
    head = to_json({"run_id": run_id}).decode().removesuffix("}")
    tail = to_json({"total": total, "next_cursor": next_cursor}).decode().removeprefix("{")
    return f'{head},"items":[{",".join(items)}],{tail}'.encode()


def _item_json(at: int, kind: int, ref_id: str, text: str) -> str:
    data = from_json(text)
    said = {
        "kind": _KIND_NAMES[kind],
        "ref_id": ref_id,
        "at": format_time(at),
        "step_id": ref_id if kind == 0 else data.get("step_id"),
        "call_id": ref_id if kind == 1 else data.get("call_id"),
        "title": data[_TITLES[kind]],
        "status": data.get("status"),
    }
    return f'{to_json(said).decode().removesuffix("}")},"data":{text}}}'

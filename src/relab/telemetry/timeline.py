"""The timeline of a run: its steps, tool calls and guardrail events merged by time.

The order is total and stable: by time, then steps before calls before events, then the
order in which they were sent. A tool call without a time of its own stands at the start
of its step, and one without a known step at the start of the run.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from relab.telemetry.models import AgentRun, GuardrailEvent, Step, TimelineItem, TimelineKind, ToolCall

KINDS = (TimelineKind.STEP, TimelineKind.TOOL_CALL, TimelineKind.GUARDRAIL_EVENT)
"""A kind's index is its rank in the order and its value in the database."""


@dataclass(frozen=True, slots=True)
class Placed:
    """An object of a run with its place in the timeline; `kind` indexes `KINDS`."""

    at: int
    kind: int
    position: int
    ref_id: str
    item: Step | ToolCall | GuardrailEvent

    @property
    def latency_ms(self) -> float | None:
        """The latency of a step or a call, in ms."""
        if isinstance(self.item, Step):
            return self.item.effective_latency_ms
        return self.item.latency_ms if isinstance(self.item, ToolCall) else None


def place(run: AgentRun) -> Iterator[Placed]:
    """Yield every object of the run with its place, in no particular order."""
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
    name = {0: "name", 1: "tool_name", 2: "type"}[kind]
    return TimelineItem(
        kind=KINDS[kind],
        ref_id=ref_id,
        at=at,
        step_id=ref_id if kind == 0 else data.get("step_id"),
        call_id=ref_id if kind == 1 else data.get("call_id"),
        title=str(data[name]),
        status=data.get("status"),
        data=dict(data),
    )

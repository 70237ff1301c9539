"""The units of a run that ranking models read: its innermost steps and, for some models, its tool calls.

Of a long text, a unit keeps the first `HEAD_CHARS` and the last `TAIL_CHARS` characters. In a run with many units, less
is kept, so that the time for a run is bounded.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from relab.rca.evidence import PlacedCall, PlacedStep, RunView, field_text, quotable_field
from relab.rca.ranking.turns import HEAD_CHARS, TAIL_CHARS, turns_of
from relab.telemetry.models import Step, ToolCall

MAX_CHARS = 400_000
"""About how many characters of all texts of one run together are read; at least 40 of each text."""

MAX_DEPTH = 8

_ERROR_START = re.compile(r"error|traceback|exception|failed", re.IGNORECASE)


class UnitKey(NamedTuple):
    """The key of a step or tool call within its run.

    The id alone is not sufficient: a step and a call may have the same id.
    """

    is_call: bool
    id: str


@dataclass(frozen=True, slots=True)
class Unit:
    """A step or a tool call of a run, as ranking models read it.

    Attributes:
        unit_id: the id of the step or the call.
        step_id: the id of the step itself, or of the call's step; None for a call without a step.
        place: the step or call itself, with its index in the run.
        speaker: the agent of the unit; if it is not known, the name of the step or the tool.
        name: the name of the step or the tool.
        field: the name of the field from which `text` was read.
        text: the beginning and the end of the unit's output; without an output, of its error message, its input or its
            name.
        asked: the beginning and the end of the unit's input.
        is_executor: whether the unit only has the output of executed code or of a tool; true for tool calls.
        reports_error: whether the status or the text of the unit reports an error.
        has_failed_call: whether a tool call of the step failed, or the call itself failed.
        is_in_failed_step: whether the enclosing step has the status `failure`, or an error message with a word such as
            `error` or `traceback`.
        parent_id: the id of the enclosing step; for a call, its `step_id`. None if there is none.
        depth: the number of nested steps that enclose the unit; at most `MAX_DEPTH`.
    """

    unit_id: str
    step_id: str | None
    place: PlacedStep | PlacedCall
    speaker: str
    name: str
    field: str
    text: str
    asked: str
    is_executor: bool
    reports_error: bool
    has_failed_call: bool
    is_in_failed_step: bool
    parent_id: str | None
    depth: int

    @property
    def key(self) -> UnitKey:
        """The key of the unit (step or tool call) within its run."""
        return UnitKey(self.is_call, self.unit_id)

    @property
    def source(self) -> Step | ToolCall:
        """The step or tool call that the unit describes."""
        return self.place.call if isinstance(self.place, PlacedCall) else self.place.step

    @property
    def agent_name(self) -> str | None:
        """The agent of the step or tool call; None if it is not known."""
        return self.place.agent_name if isinstance(self.place, PlacedCall) else self.place.step.agent_name

    @property
    def at_us(self) -> int:
        """When the step or tool call ended, in microseconds since 1970."""
        return self.place.ended_us

    @property
    def is_call(self) -> bool:
        """Whether the unit is a tool call; otherwise, it is a step."""
        return isinstance(self.place, PlacedCall)


def units_of(view: RunView, *, with_calls: bool) -> tuple[Unit, ...]:
    """Return the innermost steps of a run in order of time; if `with_calls` is true, its tool calls too."""
    count = len(view.steps) + (len(view.calls) if with_calls else 0)
    limit = max(40, min(HEAD_CHARS, MAX_CHARS // max(count, 1)))
    outer = {placed.step.step_id: placed for placed in view.steps}
    found = list(_steps(view, outer, limit))
    if with_calls:
        found += _calls(view, outer, limit)
        # A step comes before its own calls, which start with it or later.
        found.sort(key=lambda unit: (_started(unit), unit.is_call))
    return tuple(found)


def _steps(view: RunView, steps: dict[str, PlacedStep], limit: int) -> Iterator[Unit]:
    for turn in turns_of(view):
        step = turn.placed.step
        around = steps.get(step.parent_step_id or "")
        yield Unit(
            unit_id=step.step_id,
            step_id=step.step_id,
            place=turn.placed,
            speaker=turn.speaker,
            name=step.name,
            field=turn.field,
            text=turn.text if len(turn.text) <= limit + TAIL_CHARS else _cut(turn.text, limit),
            asked=_cut(step.input_summary or "", limit),
            is_executor=turn.is_executor,
            reports_error=turn.reports_error,
            has_failed_call=turn.has_failed_call,
            is_in_failed_step=around is not None and _has_failed(around),
            parent_id=step.parent_step_id,
            depth=_depth(around, steps),
        )


def _calls(view: RunView, steps: dict[str, PlacedStep], limit: int) -> Iterator[Unit]:
    failed = {failure.call_id for failure in view.call_failures}
    for placed in view.calls:
        call = placed.call
        field = quotable_field(call, "result_summary", "error_message", "args_json", "tool_name")
        around = steps.get(call.step_id or "")
        yield Unit(
            unit_id=call.call_id,
            step_id=call.step_id,
            place=placed,
            speaker=placed.agent_name or call.tool_name,
            name=call.tool_name,
            field=field,
            text=_cut(field_text(call, field) or "", limit),
            asked=_cut(field_text(call, "args_json") or "", limit),
            is_executor=True,
            reports_error=call.call_id in failed,
            has_failed_call=call.call_id in failed,
            is_in_failed_step=around is not None and _has_failed(around),
            parent_id=call.step_id,
            depth=_depth(around, steps),
        )


def _depth(around: PlacedStep | None, steps: dict[str, PlacedStep]) -> int:
    depth = 0
    while around is not None and depth < MAX_DEPTH:
        depth += 1
        around = steps.get(around.step.parent_step_id or "")
    return depth


def _has_failed(around: PlacedStep) -> bool:
    step = around.step
    return step.status == "failure" or _ERROR_START.search(step.error_message or "") is not None


def _started(unit: Unit) -> int:
    return unit.place.started_us if isinstance(unit.place, PlacedCall) else unit.place.step.started_at


def _cut(text: str, limit: int) -> str:
    tail = limit // 2
    return text if len(text) <= limit + tail else f"{text[:limit]}\n{text[-tail:]}"

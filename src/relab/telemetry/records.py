"""The rows of a stored run: its row in `agent_runs` and the rows of its timeline, for JSON and OTLP runs."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

from relab.core.json import canonical_json, digest
from relab.telemetry.models import AgentRun, RunCounts, StepStatus
from relab.telemetry.timeline import place

MAX_SEARCH_TEXT = 8_000
ITEM_LISTS = ("steps", "tool_calls", "guardrail_events")
"""The lists of a run; the index of a list is the `kind` of its items."""
STEP_KIND = 0


class ItemRecord(NamedTuple):
    """One row of a timeline, in the order of the table's columns; `data` is the JSON of the step, call or event."""

    run_id: str
    at: int
    kind: int
    position: int
    ref_id: str
    latency_ms: float | None
    data: str

    @property
    def key(self) -> ItemKey:
        """The primary key."""
        return self[:5]


ItemKey = tuple[str, int, int, int, str]
"""`(run id, time, kind, position, item id)`: the primary key of a timeline item, in timeline order."""


@dataclass(slots=True)
class RunRecord:
    """One run, ready to be stored.

    Attributes:
        values: the columns of `agent_runs` except `received_at` and `updated_at`; JSON columns as text.
        items: the rows of its timeline, in no particular order.
        tool_stats: `{tool: [calls, failures]}`.
    """

    values: dict[str, Any]
    items: list[ItemRecord]
    tool_stats: dict[str, list[int]]

    @property
    def run_id(self) -> str:
        """The run's id."""
        return str(self.values["run_id"])

    @property
    def step_latencies_ms(self) -> list[float]:
        """The known latencies of its steps, in ms."""
        return [item.latency_ms for item in self.items if item.kind == STEP_KIND and item.latency_ms is not None]

    @property
    def content_hash(self) -> str:
        """The digest of the content."""
        return str(self.values["content_hash"])

    @property
    def counts(self) -> RunCounts:
        """The numbers of steps, tool calls and guardrail events."""
        return RunCounts(
            steps=self.values["step_count"],
            tool_calls=self.values["tool_call_count"],
            guardrail_events=self.values["guardrail_event_count"],
        )


def record_of(run: AgentRun) -> RunRecord:
    """Return the record of a run that was posted as JSON."""
    body = run.model_dump(mode="json", exclude_unset=True)
    tool_stats: dict[str, list[int]] = {}
    for call in run.tool_calls:
        entry = tool_stats.setdefault(call.tool_name, [0, 0])
        entry[0] += 1
        entry[1] += call.status is StepStatus.FAILURE
    values = {
        "run_id": run.run_id,
        "source": "json",
        "agent_name": run.agent_name,
        "agent_version": run.agent_version,
        "model": run.model,
        "environment": run.environment,
        "conversation_id": run.conversation_id,
        "started_at": run.started_at,
        "ended_at": run.ended_at,
        "status": run.status.value,
        "task_id": run.task_id,
        "prompt_hash": run.prompt_hash,
        "version_key": version_key(run.agent_name, run.environment, run.agent_version, run.prompt_hash),
        "total_cost_usd": run.cost.total_cost_usd if run.cost else None,
        "category": None,
        "step_count": len(run.steps),
        "tool_call_count": len(run.tool_calls),
        "guardrail_event_count": len(run.guardrail_events),
        "tool_stats": canonical_json(tool_stats),
        "search_text": join_search_text(_search_parts(run)),
        "content_hash": digest(body),
        "mapper_version": None,
        "data": canonical_json({name: value for name, value in body.items() if name not in ITEM_LISTS}),
    }
    items = [
        ItemRecord(
            run.run_id,
            placed.at,
            placed.kind,
            placed.position,
            placed.ref_id,
            placed.latency_ms,
            canonical_json(body[ITEM_LISTS[placed.kind]][placed.position]),
        )
        for placed in place(run)
    ]
    return RunRecord(values, items, tool_stats)


@functools.lru_cache(maxsize=4_096)
def version_key(agent_name: str, environment: str | None, agent_version: str | None, prompt_hash: str | None) -> str:
    """Return a digest of agent, environment, version and prompt; it is short enough for an index."""
    return digest([agent_name, environment, agent_version, prompt_hash])


def join_search_text(parts: Iterable[str | None]) -> str:
    """Join the texts that people search for into one lower-case text without duplicates.

    The text is cut at `MAX_SEARCH_TEXT` characters, so the most important parts must come first.
    """
    taken: dict[str, None] = {}
    length = 0
    for part in parts:
        if part and part not in taken:
            taken[part] = None
            length += len(part) + 1
            if length >= MAX_SEARCH_TEXT:
                break
    return "\n".join(taken)[:MAX_SEARCH_TEXT].lower()


def _search_parts(run: AgentRun) -> Iterator[str | None]:
    yield from (run.run_id, run.agent_name, run.error_type, run.error_message, run.trace_id, run.task_id)
    yield run.conversation_id
    yield from run.correlation_ids
    for call in run.tool_calls:
        if call.status is StepStatus.FAILURE:
            yield from (call.tool_name, call.error_class, call.error_message)
    for step in run.steps:
        if step.status is StepStatus.FAILURE:
            yield from (step.name, step.error_class, step.error_message)
    for event in run.guardrail_events:
        yield from (event.type, event.message)

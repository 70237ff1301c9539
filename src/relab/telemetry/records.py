"""Build the rows to store for a run: its row of `agent_runs` with the search text, and the rows of its timeline.

`run_record` builds them from `RunFields`, for runs sent as JSON and for runs computed from spans. If a field of the run
has the name of a column of `agent_runs`, it is copied to this column.
"""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from typing import Any, Final, Literal

from pydantic_core import from_json, to_json

from relab.core.json import canonical_json, digest
from relab.telemetry.cost_models import billed_tokens, usage_by_model
from relab.telemetry.models import CALL, EVENT, ITEM_KINDS, STEP, AgentRun, RunFields, StepStatus
from relab.telemetry.outcome import (
    OUTCOME_VERSION,
    UNKNOWN_ROLE,
    OutcomeReport,
    RunActivity,
    call_activity,
    outcome_of,
    step_activity,
)
from relab.telemetry.outcome_models import OutcomeRule, RunOutcome
from relab.telemetry.tables import FormerRun, StoredItem, StoredRun
from relab.telemetry.timeline import place

MAX_SEARCH_TEXT = 8_000
_FAILED: Final = frozenset(outcome.value for outcome in RunOutcome if outcome.is_failure)
_COPIED = tuple(name for name in StoredRun._fields if name in RunFields.model_fields and name != "status")
"""The columns that are fields of a run, copied unchanged."""


@dataclass(frozen=True, slots=True)
class RunRecord:
    """The data to store for one run: its row of `agent_runs`, its search text, and its timeline items.

    `items` are in no particular order.
    """

    row: StoredRun
    search_text: str
    items: list[StoredItem]

    @property
    def run_id(self) -> str:
        """The run's id."""
        return self.row.run_id

    @property
    def is_suspect(self) -> bool:
        """Whether the run needs an analysis.

        It does if it failed, completed with unrecovered errors, or is incomplete with errors.
        """
        row = self.row
        return row.outcome in _FAILED or (row.outcome_rule == OutcomeRule.INCOMPLETE and row.outcome_evidence != "[]")

    def columns(self, now_us: int, former: FormerRun | None = None) -> dict[str, Any]:
        """Return the row of the run as `{column: value}`; JSON columns are text.

        The run awaits an analysis if it needs one (`is_suspect`), or if the newest analysis found a failure in it: the
        next one takes a run that no longer fails out of its cluster of failures.

        Args:
            now_us: becomes the time of receipt and the time of the last write, in microseconds since 1970.
            former: the stored run that the row replaces; None for a new run.
        """
        return {
            **self.row._asdict(),
            "search_text": self.search_text,
            "awaits_analysis": self.is_suspect or (former is not None and former.was_found_failed),
            "received_at": now_us,
            "updated_at": now_us,
            "project_at": None,
            "waiting_size": 0,
        }


def run_record(
    fields: RunFields,
    items: list[StoredItem],
    activities: Iterable[RunActivity],
    *,
    source: Literal["json", "otlp"],
    data: str,
    content_hash: str,
    calls: Iterable[tuple[str, StepStatus]],
    search_parts: Iterable[str | None],
    mapper_version: int | None = None,
) -> RunRecord:
    """Return the rows to store for a run, with its outcome and the counts of its items and tokens.

    Args:
        fields: the validated fields of the run.
        items: the rows of the run's timeline.
        activities: the steps and tool calls of the run; they are only read if the outcome depends on them.
        source: how the run was received: as JSON, or as spans over OTLP.
        data: the JSON of the run without its lists of steps, calls and events.
        content_hash: the digest of the run and its items.
        calls: `(tool, status)` of each tool call.
        search_parts: texts from the items to add to the search text of the run, the most important first.
        mapper_version: the version of the rules (`MAPPER_VERSION`) by which the run was computed from spans; None for a
            run sent as JSON.
    """
    counts = Counter([item.kind for item in items])
    outcome = decide(fields, items, activities, source=source)
    copied: dict[str, Any] = {name: getattr(fields, name) for name in _COPIED}
    row = StoredRun(
        **copied,
        source=source,
        status=fields.status.value,
        **outcome_columns(outcome),
        version_key=version_key(fields.agent_name, fields.environment, fields.agent_version, fields.prompt_hash),
        total_cost_usd=fields.cost.total_cost_usd if fields.cost else None,
        token_usage=token_usage(fields),
        category=None,
        category_confidence=None,
        step_count=counts[STEP],
        tool_call_count=counts[CALL],
        guardrail_event_count=counts[EVENT],
        tool_stats=to_json(_tool_stats(calls)).decode(),
        content_hash=content_hash,
        mapper_version=mapper_version,
        data=data,
    )
    return RunRecord(row, join_search_text(chain(_own_parts(fields), search_parts)), items)


def token_usage(fields: RunFields) -> str:
    """Return the numbers of tokens of a run as JSON text, an object with two fields.

    - `sums`: `[prompt, cached, cache_write, completion, reasoning]`; a number is null if it was not reported.
    - `models`: a list with one `[provider, model, prompt, cached, cache_write, completion]` per model. The list is null
      if the name, the prompt tokens or the completion tokens of any model, or the tokens of a call, are not known.

    The object is empty if the run has no `cost`.
    """
    cost = fields.cost
    if cost is None:
        return "{}"
    sums = (
        cost.tokens_prompt,
        cost.tokens_cached,
        cost.tokens_cache_write,
        cost.tokens_completion,
        cost.tokens_reasoning,
    )
    usage = usage_by_model(cost, fields.model)
    models = [(entry.provider, entry.model, *tokens) for entry in usage if (tokens := billed_tokens(entry)) is not None]
    complete = models if models and len(models) == len(usage) else None
    return to_json({"sums": sums, "models": complete}).decode()


def decide(
    fields: RunFields, items: Iterable[StoredItem], activities: Iterable[RunActivity], *, source: str
) -> OutcomeReport:
    """Return the outcome of a run and, if it has several agents, the outcome of each agent.

    Args:
        fields: the fields of the run.
        items: the rows of the run's timeline. If the run was sent as JSON, they show whether steps or calls name their
            agents. They are not read for a run computed from spans.
        activities: the steps and tool calls of the run; they are only read if the outcome depends on them.
        source: how the run was received: `json`, or `otlp` if it was computed from spans.
    """
    # A run that was posted as JSON is a run, whatever it contains.
    if source == "otlp" and (fields.model_extra or {}).get("span_kind") == UNKNOWN_ROLE:
        return OutcomeReport(value=RunOutcome.UNKNOWN, rule=OutcomeRule.NO_AGENT_ACTIVITY)
    names_agents = bool(fields.agents) or (source == "json" and any('"agent_name"' in item.data for item in items))
    return outcome_of(fields, activities, names_agents=names_agents)


def outcome_columns(outcome: OutcomeReport) -> dict[str, Any]:
    """Return the columns in which an outcome is stored, as `{column: value}`.

    The evidence and the outcomes of agents are JSON texts.
    """
    return {
        "outcome": outcome.value.value,
        "outcome_rule": outcome.rule.value,
        "outcome_evidence": to_json(outcome.evidence).decode(),
        "agent_outcomes": to_json(outcome.agents).decode(),
        "outcome_version": OUTCOME_VERSION,
    }


def activities_in(items: Iterable[StoredItem]) -> Iterator[RunActivity]:
    """Yield the steps and tool calls among the items of a run, as the input of the rules that decide the outcome."""
    return activities_with((item, from_json(item.data)) for item in items)


def activities_with(items: Iterable[tuple[StoredItem, Mapping[str, Any]]]) -> Iterator[RunActivity]:
    """Yield the steps and tool calls among the items of a run, as the input of the rules that decide the outcome.

    `items` are pairs `(stored item, its parsed JSON)`.
    """
    for item, content in items:
        kind = item.kind
        if kind == STEP:
            yield step_activity(content.get, item.at, item.position, item.latency_ms)
        elif kind == CALL:
            yield call_activity(content.get, item.at, item.position, item.latency_ms)


def record_of(run: AgentRun) -> RunRecord:
    """Return the rows to store for a run that was sent as JSON."""
    body = run.model_dump(mode="json", exclude_unset=True)
    content_hash = digest(body)
    lists = {kind.list_name: body.pop(kind.list_name, []) for kind in ITEM_KINDS}
    items = [
        StoredItem(
            run.run_id,
            placed.at,
            placed.kind,
            placed.position,
            placed.ref_id,
            placed.latency_ms,
            canonical_json(lists[ITEM_KINDS[placed.kind].list_name][placed.position]),
        )
        for placed in place(run)
    ]
    return run_record(
        run,
        items,
        activities_in(items),
        source="json",
        data=canonical_json(body),
        content_hash=content_hash,
        calls=((call.tool_name, call.status) for call in run.tool_calls),
        search_parts=_item_parts(run),
    )


def step_latencies_ms(items: Iterable[StoredItem]) -> list[float]:
    """Return the known latencies of the steps among the items, in ms."""
    return [item.latency_ms for item in items if item.kind == STEP and item.latency_ms is not None]


@functools.lru_cache(maxsize=4_096)
def version_key(agent_name: str, environment: str | None, agent_version: str | None, prompt_hash: str | None) -> str:
    """Return a digest of agent name, environment, version and prompt.

    Runs with the same digest have the same version.
    """
    return digest([agent_name, environment, agent_version, prompt_hash])


def join_search_text(parts: Iterable[str | None]) -> str:
    """Join the texts of a run into one lower-case text in which people search for runs; omit duplicates.

    The result is cut at `MAX_SEARCH_TEXT` characters, so the most important texts must come first.
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


def _tool_stats(calls: Iterable[tuple[str, StepStatus]]) -> dict[str, list[int]]:
    """Return `{tool: [number of calls, number of failed calls]}` for the `(tool, status)` pairs in `calls`."""
    stats: dict[str, list[int]] = {}
    for tool, status in calls:
        entry = stats.setdefault(tool, [0, 0])
        entry[0] += 1
        entry[1] += status is StepStatus.FAILURE
    return stats


def _own_parts(fields: RunFields) -> Iterator[str | None]:
    yield from (fields.run_id, fields.agent_name, fields.error_type, fields.error_message, fields.trace_id)
    yield from (fields.task_id, fields.conversation_id, *fields.correlation_ids)


def _item_parts(run: AgentRun) -> Iterator[str | None]:
    for call in run.tool_calls:
        if call.status is StepStatus.FAILURE:
            yield from (call.tool_name, call.error_class, call.error_message)
    for step in run.steps:
        if step.status is StepStatus.FAILURE:
            yield from (step.name, step.error_class, step.error_message)
    for event in run.guardrail_events:
        yield from (event.type, event.message)

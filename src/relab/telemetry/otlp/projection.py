"""Project the spans of one trace to an agent run: a pure function of the set of spans.

The order of arrival does not matter, because spans are sorted by start and id first. An incomplete
trace gives the run known so far, with the status `running` until its root span (or, if the root is
reported to another system, its agent span) has ended.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic_core import from_json
from pydantic_core import to_json as _to_json

from relab.core.clock import format_time
from relab.telemetry.models import (
    CALL,
    EVENT,
    MAX_COST_USD,
    MAX_INT64,
    MAX_NAME_CHARS,
    MAX_SHORT_TEXT_CHARS,
    STEP,
    RunFields,
    RunStatus,
    StepStatus,
)
from relab.telemetry.otlp.facts import CONTENT_FILTER, NO_ITEM, SpanFacts, model_of, text_attribute
from relab.telemetry.otlp.lineage import ancestors_of
from relab.telemetry.otlp.roles import MAPPER_VERSION, MODEL_ROLES, Role
from relab.telemetry.otlp.spans import Attributes, clean_text
from relab.telemetry.otlp.text import MAX_OUTPUT_CHARS
from relab.telemetry.records import RunRecord, run_record
from relab.telemetry.tables import StoredItem

_CONVERSATION = ("gen_ai.conversation.id", "session.id")


def project(trace_id: str, spans: Iterable[SpanFacts]) -> RunRecord:
    """Return the run of a trace; `spans` must contain at least one span and no duplicates."""
    return _Projection(trace_id, sorted(spans, key=lambda facts: (facts.span.start_us, facts.span.span_id))).record()


@dataclass(frozen=True, slots=True)
class _End:
    """The status of the run, the time when it ended (None: not yet), and its error."""

    status: RunStatus
    ended_at: int | None
    error_class: str | None = None
    error_message: str | None = None


class _Projection:
    def __init__(self, trace_id: str, spans: Sequence[SpanFacts]) -> None:
        self._trace_id = trace_id
        self._spans = spans
        self._by_id = {facts.span.span_id: facts for facts in spans}
        self._around = ancestors_of(self._by_id)
        known = [facts for facts in spans if facts.role is not Role.OTHER]
        tops = [facts for facts in known if not self._around[facts.span.span_id].is_known]
        containers = [facts for facts in tops if facts.role is Role.AGENT or facts.role is Role.CHAIN]
        roots = [facts for facts in spans if not facts.span.parent_id]
        self._has_root = bool(roots)
        self._deciders = containers or roots
        # If a single top span covers the whole run, it is the run itself and not one of its steps.
        self._whole = tops[0] if len(tops) == 1 and containers else None
        self._principal = (containers or tops or roots or spans)[0]

    def record(self) -> RunRecord:
        end = self._end()
        items = self._items()
        data = self._run_data(end)
        data_json = _to_json(data).decode()
        content = hashlib.sha256("\n".join([data_json, *[item.data for item in items]]).encode())
        return run_record(
            # The same checks as for a posted run, so that no run is stored that an analysis could not load.
            RunFields.model_validate(data),
            items,
            source="otlp",
            data=data_json,
            content_hash=f"sha256:{content.hexdigest()}",
            calls=((facts.item["tool_name"], facts.outcome.status) for facts in self._spans if facts.kind == CALL),
            search_parts=self._search_parts(),
            mapper_version=MAPPER_VERSION,
        )

    def _end(self) -> _End:
        """Return the end of the run, from its top agent and chain spans or else its root spans.

        If one of them failed, the run failed; else, if one was cancelled, the run was cancelled.
        """
        deciders = self._deciders
        is_whole = self._has_root or any(facts.role is Role.AGENT for facts in deciders)
        if not deciders or not is_whole or any(facts.span.end_us is None for facts in deciders):
            return _End(RunStatus.RUNNING, None)
        ended_at = max([max(facts.span.end_us, facts.span.start_us) for facts in self._spans if facts.span.end_us])
        for wanted, status in ((StepStatus.FAILURE, RunStatus.FAILURE), (StepStatus.CANCELLED, RunStatus.CANCELLED)):
            for facts in deciders:
                if facts.outcome.status is wanted:
                    return _End(status, ended_at, facts.outcome.error_class, facts.outcome.error_message)
        return _End(RunStatus.SUCCESS, ended_at)

    def _run_data(self, end: _End) -> dict[str, Any]:
        principal, conversation_id = self._principal, self._conversation_id()
        attributes, resource = principal.span.attributes, principal.resource
        # If the trace comes from a trial of an experiment, this is the agent run of the trial.
        trial = text_attribute(resource, "relab.agent_run_id", limit=MAX_NAME_CHARS)
        fields = {
            "run_id": self._trace_id,
            "agent_name": self._agent_name(),
            "agent_version": text_attribute(attributes, "gen_ai.agent.version")
            or text_attribute(resource, "service.version"),
            "model": model_of(attributes) or self._first_model(),
            "environment": text_attribute(resource, "deployment.environment.name", "deployment.environment"),
            "conversation_id": conversation_id,
            "started_at": format_time(self._spans[0].span.start_us),
            "ended_at": format_time(end.ended_at) if end.ended_at is not None else None,
            "status": str(end.status),
            "error_type": end.error_class and end.error_class[:MAX_SHORT_TEXT_CHARS],
            "error_message": end.error_message and end.error_message[:MAX_OUTPUT_CHARS],
            "trace_id": self._trace_id,
            "correlation_ids": [name for name in (conversation_id, trial) if name] or None,
            "task_id": text_attribute(attributes, "relab.task_id") or text_attribute(resource, "relab.task_id"),
            "prompt_hash": text_attribute(attributes, "relab.prompt_hash"),
            "cost": self._cost(),
        }
        return {name: value for name, value in fields.items() if value is not None}

    def _agent_name(self) -> str:
        principal = self._principal
        attributes = principal.span.attributes
        service = text_attribute(principal.resource, "service.name")
        if service is not None and service.startswith("unknown_service"):
            service = None
        name = text_attribute(attributes, "gen_ai.agent.name", "agent.name") or _langchain_name(attributes) or service
        return (name or _without_operation(principal.span.name) or "unknown")[:MAX_NAME_CHARS]

    def _first_model(self) -> str | None:
        for facts in self._spans:
            if facts.role is Role.LLM:
                model = model_of(facts.span.attributes)
                if model is not None:
                    return model
        return None

    def _conversation_id(self) -> str | None:
        for facts in self._spans:
            found = text_attribute(facts.span.attributes, *_CONVERSATION, limit=MAX_NAME_CHARS)
            if found is not None:
                return found
        return None

    def _cost(self) -> dict[str, Any] | None:
        """Return the sums of tokens and cost; None if there are none.

        Each token is counted once: agents and gateways repeat the counts of the spans below or above them.
        """
        billed = [
            facts.usage
            for facts in self._spans
            if facts.usage is not None and facts.role in MODEL_ROLES and not self._around[facts.span.span_id].is_billed
        ]
        if not billed and self._principal.usage is not None:
            billed = [self._principal.usage]
        costs = [usage.cost_usd for usage in billed if usage.cost_usd is not None]
        sums = {
            "tokens_prompt": _sum(usage.tokens_prompt for usage in billed),
            "tokens_completion": _sum(usage.tokens_completion for usage in billed),
            # `fsum` is exact, so that the sum does not depend on the order of the spans.
            "total_cost_usd": min(math.fsum(costs), MAX_COST_USD) if costs else None,
        }
        return {name: value for name, value in sums.items() if value is not None} or None

    def _items(self) -> list[StoredItem]:
        agents = {facts.span.span_id: _agent_label(facts) for facts in self._spans if facts.role is Role.AGENT}
        names_agents = len(set(agents.values())) > 1
        whole = self._whole.span.span_id if self._whole is not None else None
        asked: dict[str | None, str] = {
            call: facts.span.span_id for facts in reversed(self._spans) for call in facts.requested
        }
        items: list[StoredItem] = []
        for facts in self._spans:
            span_id = facts.span.span_id
            if facts.kind == NO_ITEM or span_id == whole:
                continue
            around = self._around[span_id]
            step = around.step if around.step != whole else None
            item = dict(facts.item)
            at = facts.span.start_us
            if facts.kind == STEP:
                _tie(item, "parent_step_id", step)
                if names_agents:
                    agent = span_id if facts.role is Role.AGENT else around.agent
                    _tie(item, "agent_name", agents.get(agent or ""))
                if CONTENT_FILTER in item.get("finish_reasons", ()):
                    items.append(self._content_filter(facts))
            else:
                _tie(item, "step_id", step or asked.get(item.get("tool_call_id")))
                if facts.kind == EVENT:
                    at = max(facts.span.end_us or 0, at)
                    _tie(item, "call_id", around.call)
            # The position is always 0, and ties are sorted by span id: a position would change with each earlier span.
            items.append(
                StoredItem(self._trace_id, at, facts.kind, 0, span_id, item.get("latency_ms"), _to_json(item).decode())
            )
        return items

    def _content_filter(self, facts: SpanFacts) -> StoredItem:
        span = facts.span
        at = max(span.end_us or 0, span.start_us)
        event = {
            "event_id": span.span_id,
            "type": CONTENT_FILTER,
            "message": "The model's answer was stopped by a content filter.",
            "step_id": span.span_id,
            "created_at": format_time(at),
        }
        return StoredItem(self._trace_id, at, EVENT, 0, span.span_id, None, _to_json(event).decode())

    def _search_parts(self) -> Iterator[str | None]:
        for facts in self._spans:
            if facts.kind != NO_ITEM and facts.outcome.status is StepStatus.FAILURE:
                item = facts.item
                yield from (item.get("tool_name"), item.get("name"), item.get("error_class"), item.get("error_message"))
            if facts.kind == EVENT:
                yield from (facts.item["type"], facts.item["message"])


def _langchain_name(attributes: Attributes) -> str | None:
    """Return the agent name that LangChain sets in the metadata, which OpenInference reports as JSON; or None."""
    metadata = text_attribute(attributes, "metadata", limit=100_000)
    if metadata is None or "lc_agent_name" not in metadata:
        return None
    try:
        name = from_json(metadata).get("lc_agent_name")
    except (ValueError, AttributeError):
        return None
    return clean_text(name) if isinstance(name, str) and name else None


def _agent_label(facts: SpanFacts) -> str:
    name = text_attribute(facts.span.attributes, "gen_ai.agent.name", "agent.name")
    return (name or _without_operation(facts.span.name) or "unknown")[:MAX_SHORT_TEXT_CHARS]


def _without_operation(name: str) -> str:
    for operation in ("invoke_agent ", "create_agent ", "invoke_workflow "):
        name = name.removeprefix(operation)
    return name


def _tie(item: dict[str, Any], field: str, value: str | None) -> None:
    if value is not None:
        item[field] = value


def _sum(values: Iterable[int | None]) -> int | None:
    known = [value for value in values if value is not None]
    return min(sum(known), MAX_INT64) if known else None

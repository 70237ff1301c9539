"""Compute (project) the agent run of a trace from its spans: a pure function of the set of spans.

The order of arrival does not matter, because the spans are sorted by start and id first. If spans are missing, the run
is computed from the received ones. The status of a run is `running` until its outermost agent and chain spans have
ended (or its root spans, if it has neither). Before a root span is received, only an agent's span can end the run. If
no more spans are expected, the status is `incomplete` instead of `running`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic_core import to_json as _to_json

from relab.core.clock import format_time
from relab.telemetry.models import (
    CALL,
    EVENT,
    MAX_NAME_CHARS,
    MAX_SHORT_TEXT_CHARS,
    STEP,
    RunFields,
    RunStatus,
    StepStatus,
)
from relab.telemetry.otlp import vocabulary as v
from relab.telemetry.otlp.agents import TraceAgents, Transfer, without_operation
from relab.telemetry.otlp.approvals import settle_approvals
from relab.telemetry.otlp.bare_calls import find_bare_calls
from relab.telemetry.otlp.collapse import collapse
from relab.telemetry.otlp.cost import cost_of
from relab.telemetry.otlp.dialects.tool_schemas import GivenSchemas, own_schema
from relab.telemetry.otlp.facts import NO_ITEM, SpanFacts, model_of, text_attribute
from relab.telemetry.otlp.guardrails import guardrails_of
from relab.telemetry.otlp.lineage import ancestors_of, delegating_models, is_any_complete
from relab.telemetry.otlp.misplaced_errors import place_errors
from relab.telemetry.otlp.roles import CREATE_AGENT, MAPPER_VERSION, Role
from relab.telemetry.otlp.text import MAX_OUTPUT_CHARS
from relab.telemetry.otlp.tool_calls import ToolCalls, join_tool_calls
from relab.telemetry.records import RunRecord, activities_with, run_record
from relab.telemetry.tables import StoredItem


def project(trace_id: str, spans: Iterable[SpanFacts], *, is_over: bool = False) -> RunRecord:
    """Compute the agent run of a trace from its spans; return the record of the run.

    Args:
        trace_id: the id of the trace.
        spans: the spans of the trace, at least one, without duplicates.
        is_over: whether no more spans are expected. The status of a run that has not ended is then `incomplete`; if
            false, it is `running`.
    """
    ordered = sorted(spans, key=lambda facts: (facts.span.start_us, facts.span.span_id))
    return _Projection(trace_id, ordered, RunStatus.INCOMPLETE if is_over else RunStatus.RUNNING).record()


@dataclass(frozen=True, slots=True)
class _End:
    """How a run ended: its status, the time of the end (None if it has not ended), and its error."""

    status: RunStatus
    ended_at: int | None
    error_class: str | None = None
    error_message: str | None = None


class _Projection:
    def __init__(self, trace_id: str, spans: Sequence[SpanFacts], without_end: RunStatus) -> None:
        self._trace_id = trace_id
        self._without_end = without_end
        self._all_spans = self._spans = spans = find_bare_calls(spans)
        around = ancestors_of({facts.span.span_id: facts for facts in spans})
        shown = collapse(spans, around)
        if shown is not spans:
            spans = self._spans = shown
            around = ancestors_of({facts.span.span_id: facts for facts in spans})
        spans = self._spans = place_errors(spans, around)
        self._around = around
        known = [facts for facts in spans if facts.role is not Role.OTHER]
        tops = [facts for facts in known if not self._around[facts.span.span_id].is_known]
        containers = [facts for facts in tops if facts.role is Role.AGENT or facts.role is Role.CHAIN]
        roots = [facts for facts in spans if not facts.span.parent_id]
        self._has_root = bool(roots)
        self._deciders = containers or roots
        # If a single top span covers the whole run, it is the run itself and not one of its steps.
        self._whole = tops[0] if len(tops) == 1 and containers else None
        self._principal = (containers or tops or roots or spans)[0]
        # A failed call is stored with the schema of its tool, which its analysis needs.
        self._schemas = GivenSchemas(facts.span.attributes for facts in spans if facts.role in (Role.LLM, Role.AGENT))

    def record(self) -> RunRecord:
        end = self._end()
        self._spans = settle_approvals(self._spans)
        calls = join_tool_calls(self._spans, has_ended=end.status is not RunStatus.RUNNING)
        agents = TraceAgents(self._spans, self._around, calls)
        contents = self._items(calls, agents)
        items = [item for item, _ in contents]
        data = self._run_data(end, agents)
        data_json = _to_json(data).decode()
        content = hashlib.sha256("\n".join([data_json, *[item.data for item in items]]).encode())
        return run_record(
            # The same checks as for a posted run, so that no run is stored that an analysis could not load.
            RunFields.model_validate(data),
            items,
            activities_with(contents),
            source="otlp",
            data=data_json,
            content_hash=f"sha256:{content.hexdigest()}",
            calls=self._call_statuses(calls),
            search_parts=self._search_parts(calls),
            mapper_version=MAPPER_VERSION,
        )

    def _end(self) -> _End:
        """Return the end of the run: its status, the time at which its last span ended, and its error.

        The outermost agent and chain spans decide the status; if there are none, the root spans decide. Until all of
        these spans have ended, the run has no end.
        """
        deciders = self._deciders
        is_whole = self._has_root or self._has_whole_agent()
        if not deciders or not is_whole or any(facts.span.end_us is None for facts in deciders):
            return _End(self._without_end, None)
        ended_at = max([max(facts.span.end_us, facts.span.start_us) for facts in self._spans if facts.span.end_us])
        for wanted, status in ((StepStatus.FAILURE, RunStatus.FAILURE), (StepStatus.CANCELLED, RunStatus.CANCELLED)):
            for facts in deciders:
                if facts.outcome.status is wanted:
                    return _End(status, ended_at, facts.outcome.error_class, facts.outcome.error_message)
        return _End(RunStatus.SUCCESS, ended_at)

    def _has_whole_agent(self) -> bool:
        """Return whether the span of an agent may end the run, although the root span was not received.

        Only outermost agents are examined. One of them may end the run if it did not succeed, or if all spans around it
        were received (`is_any_complete`). If such a span is missing, it may be that of an enclosing agent, which
        has not ended.
        """
        agents = [facts for facts in self._deciders if facts.role is Role.AGENT]
        is_over = any(facts.outcome.status is not StepStatus.SUCCESS for facts in agents)
        return is_over or is_any_complete(agents, self._all_spans)

    def _run_data(self, end: _End, agents: TraceAgents) -> dict[str, Any]:
        principal, conversation_id = self._principal, self._first_text(v.CONVERSATION_ID)
        attributes, resource = principal.span.attributes, principal.resource
        # If the trace comes from a trial of an experiment, this is the agent run of the trial.
        trial = text_attribute(resource, "relab.agent_run_id", limit=MAX_NAME_CHARS)
        fields = {
            "run_id": self._trace_id,
            "agent_name": self._agent_name(),
            "agent_version": text_attribute(attributes, v.AGENT_VERSION) or text_attribute(resource, "service.version"),
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
            "cost": cost_of(self._spans, self._around, self._principal),
            "user_id": self._first_text(v.USER_ID),
            "question": self._question(),
            "answer": self._answer() if end.status is not RunStatus.RUNNING else None,
            "agents": agents.fields(),
            "has_messages": False if attributes.get(v.HAS_NO_MESSAGES) is True else None,
            "span_kind": self._span_kind(end, conversation_id),
        }
        return {name: value for name, value in fields.items() if value is not None}

    def _span_kind(self, end: _End, conversation_id: str | None) -> str | None:
        """Return `agent` if an agent's span is the whole run, `other` if the trace has no agent activity, else None.

        A trace has no agent activity if all of these hold: it ended successfully; no span has a known role, an agent's
        name, a question or an answer (the creation of an agent does not count); and no span names a conversation or a
        user. Late spans may change the result.
        """
        if self._whole is not None and self._whole.role is Role.AGENT:
            return str(Role.AGENT)
        is_named = conversation_id or self._first_text(v.USER_ID)
        if end.status is not RunStatus.SUCCESS or is_named or any(map(_shows_agent, self._all_spans)):
            return None
        return str(Role.OTHER)

    def _agent_name(self) -> str:
        principal = self._principal
        names = [principal.span.attributes.get(v.AGENT_NAME)]
        names.extend(facts.span.attributes.get(v.AGENT_NAME) for facts in self._spans if facts.role is Role.AGENT)
        names.append(principal.span.attributes.get(v.WORKFLOW_NAME))
        service = text_attribute(principal.resource, "service.name")
        names.append(None if service is not None and service.startswith("unknown_service") else service)
        names.append(without_operation(principal.span.name))
        return next((name for name in names if name and isinstance(name, str)), "unknown")[:MAX_NAME_CHARS]

    def _first_text(self, key: str) -> str | None:
        """Return the text in the attribute `key` of the earliest span in which this attribute is a non-empty text.

        The text is cut to `MAX_NAME_CHARS`. Return None if there is no such span.
        """
        for facts in self._spans:
            value = facts.span.attributes.get(key)
            if value and isinstance(value, str):
                return value[:MAX_NAME_CHARS]
        return None

    def _question(self) -> str | None:
        """Return the user's question; None if no span has a question.

        The question of the run's main span has precedence: the first outermost agent or chain span, if there is one.
        If the main span has no question, that of the earliest span with a question is returned.
        """
        return self._principal.talk.question or next(
            (facts.talk.question for facts in self._spans if facts.talk.question), None
        )

    def _answer(self) -> str | None:
        """Return the run's answer to the user; None if there is none.

        The first of these that exists is returned:

        1. The answer of the span that covers the whole run, if this span did not fail.
        2. The answer of the agent that ended last.
        3. The answer of the model call that ended last. A call that requested tools and encloses an agent does not
           count, because the agent answered after it.
        4. The last message that one agent sent to another.

        If a failure kept the answer of case 2 or 3 from the user (`_was_lost`), the result is None.
        """
        if self._whole is not None and self._whole.talk.answer and not _has_failed(self._whole):
            return self._whole.talk.answer
        if not any(facts.talk.answer for facts in self._spans):
            return None
        delegating = delegating_models(self._spans)
        for role in (Role.AGENT, Role.LLM):
            ended = [
                facts
                for facts in self._spans
                if facts.role is role and facts.span.end_us is not None and facts.span.span_id not in delegating
            ]
            last = max(ended, key=lambda facts: (facts.span.end_us or 0, facts.span.span_id), default=None)
            if last is not None and last.talk.answer:
                return None if self._was_lost(last) else last.talk.answer
        # If neither an agent nor a model reports its answer, messages between agents have it.
        return next((facts.talk.answer for facts in reversed(self._spans) if _carries_message(facts)), None)

    def _was_lost(self, speaker: SpanFacts) -> bool:
        """Return whether the user did not get the answer of `speaker` (the span of an agent or a model call).

        The result is True if one of these failed: `speaker` itself, if it is an agent; the nearest agent or step around
        `speaker`; the span that covers the whole run.
        """
        around = self._around[speaker.span.span_id]
        outer = {around.step, around.agent} | ({speaker.span.span_id} if speaker.role is Role.AGENT else set())
        if self._whole is not None:
            outer.add(self._whole.span.span_id)
        return any(_has_failed(facts) and facts.span.span_id in outer for facts in self._spans)

    def _first_model(self) -> str | None:
        for facts in self._spans:
            if facts.role is Role.LLM:
                model = model_of(facts.span.attributes)
                if model is not None:
                    return model
        return None

    def _items(self, calls: ToolCalls, agents: TraceAgents) -> list[tuple[StoredItem, dict[str, Any]]]:
        """Return the timeline items of the run, each as `(row to store, JSON object of the item in the run)`."""
        names_agents = bool(agents.names)
        whole = self._whole.span.span_id if self._whole is not None else None
        steps = {facts.span.span_id for facts in self._spans if facts.kind == STEP} if calls.asked_by else set()
        steps.discard(whole)
        items: list[tuple[StoredItem, dict[str, Any]]] = []
        for facts in self._spans:
            span_id = facts.span.span_id
            if facts.kind == NO_ITEM or span_id == whole:
                continue
            around = self._around[span_id]
            step = around.step if around.step != whole else None
            item = dict(facts.item)
            at = facts.span.start_us
            if names_agents and facts.kind != EVENT:
                _tie(item, "agent_name", agents.name_of(span_id, calls))
                _tie_agents(item, agents.to_agent.get(span_id))
            if facts.kind == STEP:
                _tie(item, "parent_step_id", step)
                items.extend([self._event(facts, *found) for found in guardrails_of(facts)])
            elif facts.kind == CALL:
                if span_id in calls.added:
                    item |= calls.added[span_id]
                if item["status"] == StepStatus.FAILURE:
                    _tie(item, "tool_schema", own_schema(facts.span.attributes) or self._schemas.of(item["tool_name"]))
                asker = calls.asked_by.get(span_id)
                _tie(item, "step_id", step or (asker if asker in steps else None))
            else:
                at = max(facts.span.end_us or 0, at)
                _tie(item, "step_id", step)
                _tie(item, "call_id", around.call)
            items.append(self._stored(at, facts.kind, span_id, item))
        for call in calls.separate:
            asker = call.model.span.span_id
            step = asker if asker != whole and call.model.kind == STEP else None
            _tie(call.item, "step_id", step)
            if names_agents:
                _tie(call.item, "agent_name", agents.names.get(asker))
                _tie_agents(call.item, agents.to_agent.get(call.item["call_id"]))
            if call.status is StepStatus.FAILURE:
                _tie(call.item, "tool_schema", self._schemas.of(call.item["tool_name"]))
            items.append(self._stored(call.at_us, CALL, call.item["call_id"], call.item))
        return items

    def _stored(self, at_us: int, kind: int, ref_id: str, item: dict[str, Any]) -> tuple[StoredItem, dict[str, Any]]:
        # The position is always 0, and ties are sorted by span id: a position would change with each earlier span.
        data = _to_json(item).decode()
        return StoredItem(self._trace_id, at_us, kind, 0, ref_id, item.get("latency_ms"), data), item

    def _call_statuses(self, calls: ToolCalls) -> Iterator[tuple[str, StepStatus]]:
        for facts in self._spans:
            if facts.kind == CALL:
                added = calls.added.get(facts.span.span_id)
                status = StepStatus(added["status"]) if added and "status" in added else facts.outcome.status
                yield facts.item["tool_name"], status
        for call in calls.separate:
            yield call.item["tool_name"], call.status

    def _event(self, facts: SpanFacts, kind: str, message: str) -> tuple[StoredItem, dict[str, Any]]:
        """Return `(row to store, JSON object)` of a guardrail event that was found in the span of a step (`facts`).

        `kind` is the type of the event. The time of the event is the end of the span.
        """
        span = facts.span
        at = max(span.end_us or 0, span.start_us)
        event = {
            "event_id": span.span_id,
            "type": kind,
            "message": message,
            "step_id": span.span_id,
            "created_at": format_time(at),
        }
        return self._stored(at, EVENT, span.span_id, event)

    def _search_parts(self, calls: ToolCalls) -> Iterator[str | None]:
        for call in calls.separate:
            if call.status is StepStatus.FAILURE:
                yield from (call.item["tool_name"], call.item.get("error_message"))
        for facts in self._spans:
            if facts.kind != NO_ITEM and facts.outcome.status is StepStatus.FAILURE:
                item = facts.item
                yield from (item.get("tool_name"), item.get("name"), item.get("error_class"), item.get("error_message"))
            if facts.kind == EVENT:
                yield from (facts.item["type"], facts.item["message"])


def _has_failed(facts: SpanFacts) -> bool:
    return facts.outcome.status is StepStatus.FAILURE


def _shows_agent(facts: SpanFacts) -> bool:
    """Return whether a span shows the activity of an agent: by its role, an agent's name, a question or an answer."""
    attributes = facts.span.attributes
    is_known = facts.role is not Role.OTHER or text_attribute(attributes, v.AGENT_NAME) is not None
    has_talk = facts.talk.question is not None or facts.talk.answer is not None
    return has_talk or (is_known and attributes.get(v.OPERATION) != CREATE_AGENT)


def _carries_message(facts: SpanFacts) -> bool:
    return facts.role is Role.OTHER and facts.talk.answer is not None


def _tie_agents(item: dict[str, Any], transfer: Transfer | None) -> None:
    """Add to a timeline item the other agent that it calls or hands over to (`to_agent`), and the relation to it.

    If `transfer` is None, `item` stays unchanged.
    """
    if transfer is not None:
        item["to_agent"] = transfer.target
        item["relation"] = str(transfer.relation)


def _tie(item: dict[str, Any], field: str, value: Any) -> None:
    if value is not None:
        item[field] = value

"""Read the facts of a single span: its role, its outcome, and its step, call or event of the timeline.

No function here uses other spans, so a span is read only once, even if its parents arrive later;
`projection.py` combines the facts of a trace.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from relab.core.clock import format_time
from relab.telemetry.models import (
    CALL,
    EVENT,
    MAX_COST_USD,
    MAX_INT64,
    MAX_SHORT_TEXT_CHARS,
    MAX_STATUS_CODE,
    STEP,
    StepStatus,
)
from relab.telemetry.otlp import text
from relab.telemetry.otlp.outcome import SpanOutcome, outcome_of
from relab.telemetry.otlp.roles import Role, role_of
from relab.telemetry.otlp.spans import Attributes, Span

MAX_FINISH_REASONS = 20
MAX_FINISH_REASON_CHARS = 100
CONTENT_FILTER: Final = "content_filter"

NO_ITEM: Final = -1
"""The kind of a span that is not an item of the timeline; the other kinds are those of `models.ITEM_KINDS`."""


class SpanUsage(NamedTuple):
    """The tokens and the cost of a model's answer; None where not reported."""

    tokens_prompt: int | None
    tokens_completion: int | None
    cost_usd: float | None


class SpanFacts(NamedTuple):
    """The facts of one span.

    Attributes:
        resource: the attributes of the process that created the span.
        kind: the kind of its timeline item (`STEP`, `CALL` or `EVENT`), or `NO_ITEM`.
        item: the fields of its timeline item, without references to other spans. It is shared: copy it before a change.
        requested: the ids of the tool calls that a model's answer requests.
    """

    span: Span
    resource: Attributes
    role: Role
    outcome: SpanOutcome
    kind: int
    item: Mapping[str, Any]
    usage: SpanUsage | None
    requested: tuple[str, ...] = ()


def facts_of(span: Span, resource: Attributes) -> SpanFacts:
    """Return the facts of a span; `resource` has the attributes of its process."""
    role = role_of(span.attributes)
    outcome = outcome_of(span)
    if role is Role.OTHER:
        return SpanFacts(span, resource, role, outcome, NO_ITEM, {}, None)
    if role is Role.TOOL:
        item, outcome = _tool_call(span, outcome)
        return SpanFacts(span, resource, role, outcome, CALL, item, None)
    if role is Role.RETRIEVER:
        return SpanFacts(span, resource, role, outcome, CALL, _retrieval(span, outcome), None)
    if role is Role.GUARDRAIL and _guardrail_triggered(span, outcome):
        return SpanFacts(span, resource, role, outcome, EVENT, _guardrail_event(span, outcome), None)
    usage = _usage(span.attributes)
    if role is not Role.LLM:
        item = _step(span, role, outcome, usage, _plain_texts(span.attributes))
        return SpanFacts(span, resource, role, outcome, STEP, item, usage)
    answers = text.messages_of(span.attributes.get("gen_ai.output.messages"))
    item = _step(span, role, outcome, usage, _model_texts(span.attributes, answers))
    reasons = _finish_reasons(span.attributes, answers)
    if reasons is not None:
        item["finish_reasons"] = reasons
    return SpanFacts(span, resource, role, outcome, STEP, item, usage, _requested(span.attributes, answers))


def text_attribute(attributes: Attributes, *keys: str, limit: int = MAX_SHORT_TEXT_CHARS) -> str | None:
    """Return the first of the attributes that is a non-empty text, cut at `limit` characters; None if there is none."""
    for key in keys:
        value = attributes.get(key)
        if value and isinstance(value, str):
            return value[:limit]
    return None


def _step(
    span: Span, role: Role, outcome: SpanOutcome, usage: SpanUsage | None, texts: tuple[str | None, str | None]
) -> dict[str, Any]:
    attributes = span.attributes
    item: dict[str, Any] = {
        "step_id": span.span_id,
        "name": span.name[:MAX_SHORT_TEXT_CHARS],
        "status": str(outcome.status),
        "span_kind": str(role),
    }
    _add_times(item, span)
    _add_error(item, outcome)
    took, gave = texts
    if took:
        item["input_summary"] = took[: text.MAX_INPUT_CHARS]
    if gave:
        item["output_summary"] = gave[: text.MAX_OUTPUT_CHARS]
    _add(item, "model", model_of(attributes))
    if usage is not None:
        _add(item, "tokens_prompt", usage.tokens_prompt)
        _add(item, "tokens_completion", usage.tokens_completion)
    _add_retries(item, attributes)
    return item


def _tool_call(span: Span, outcome: SpanOutcome) -> tuple[dict[str, Any], SpanOutcome]:
    """Return the tool call and its outcome; a result that reports an error overrides a successful span."""
    attributes = span.attributes
    result = _first(attributes, "gen_ai.tool.call.result", "output.value", "traceloop.entity.output")
    message = text.tool_message(result) if result is not None else text.ToolMessage(None)
    if message.is_error and outcome.status is StepStatus.SUCCESS:
        outcome = SpanOutcome(StepStatus.FAILURE, None, message.text)
    name = text_attribute(attributes, "gen_ai.tool.name", "tool.name", "traceloop.entity.name")
    item: dict[str, Any] = {
        "call_id": span.span_id,
        "tool_name": name or span.name.removeprefix("execute_tool ")[:MAX_SHORT_TEXT_CHARS],
        "status": str(outcome.status),
        "span_kind": "tool",
    }
    _add_times(item, span)
    _add_error(item, outcome)
    get = attributes.get
    arguments = get("gen_ai.tool.call.arguments")
    if arguments is None:
        arguments = _first(attributes, "tool_call.function.arguments", "input.value", "traceloop.entity.input")
    if arguments is not None:
        item["args_json"] = text.arguments_of(arguments)
    if message.text:
        item["result_summary"] = message.text[: text.MAX_OUTPUT_CHARS]
    call_id = text_attribute(attributes, "gen_ai.tool.call.id", "tool_call.id", "tool.id") or message.tool_call_id
    _add(item, "tool_call_id", call_id and call_id[:MAX_SHORT_TEXT_CHARS])
    status_code = get("http.response.status_code", get("http.status_code"))
    if type(status_code) is int and 0 <= status_code <= MAX_STATUS_CODE:
        item["status_code"] = status_code
    _add_retries(item, attributes)
    return item, outcome


def _retrieval(span: Span, outcome: SpanOutcome) -> dict[str, Any]:
    attributes = span.attributes
    item: dict[str, Any] = {
        "call_id": span.span_id,
        "tool_name": text_attribute(attributes, "gen_ai.data_source.id", "tool.name")
        or span.name[:MAX_SHORT_TEXT_CHARS],
        "status": str(outcome.status),
        "span_kind": "retriever",
    }
    _add_times(item, span)
    _add_error(item, outcome)
    query = _first(attributes, "gen_ai.retrieval.query.text", "gen_ai.retrieval.query", "input.value")
    _add(item, "args_json", text.arguments_of(query))
    documents = text.numbered(attributes, "retrieval.documents.")
    if documents:
        contents = [fields.get("document.content") for _, fields in sorted(documents.items())]
        found: Any = contents
    else:
        found = _first(attributes, "gen_ai.retrieval.documents", "output.value")
    _add(item, "result_summary", text.cut(text.as_text(found), text.MAX_OUTPUT_CHARS))
    return item


def _guardrail_triggered(span: Span, outcome: SpanOutcome) -> bool:
    """Return whether a guardrail was triggered: its span failed or was cancelled, or its verdict is negative."""
    if outcome.status in {StepStatus.FAILURE, StepStatus.CANCELLED}:
        return True
    verdict = _first(span.attributes, "guardrail.passed", "guardrail.result", "guardrail.triggered")
    if "guardrail.triggered" in span.attributes:
        return span.attributes["guardrail.triggered"] is True
    return verdict is False or (isinstance(verdict, str) and verdict.lower() in {"fail", "failed", "block", "blocked"})


def _guardrail_event(span: Span, outcome: SpanOutcome) -> dict[str, Any]:
    took, gave = _plain_texts(span.attributes)
    message = outcome.error_message or gave or took or outcome.error_class or span.name
    return {
        "event_id": span.span_id,
        "type": (span.name or outcome.error_class or "guardrail")[:MAX_SHORT_TEXT_CHARS],
        "message": message[: text.MAX_OUTPUT_CHARS],
        "created_at": format_time(max(span.end_us or 0, span.start_us)),
    }


def _finish_reasons(attributes: Attributes, answers: list[Any] | None) -> list[str] | None:
    given = _first(attributes, "gen_ai.response.finish_reasons", "llm.finish_reason")
    if given is None:
        given = text.finish_reasons(answers or []) or None
    if given is None:
        return None
    reasons = given if isinstance(given, list) else [given]
    return [str(reason)[:MAX_FINISH_REASON_CHARS] for reason in reasons[:MAX_FINISH_REASONS]]


def _requested(attributes: Attributes, answers: list[Any] | None) -> tuple[str, ...]:
    """Return the ids of the tool calls that a model's answer requests."""
    if answers is not None:
        return tuple(text.requested_calls(answers))
    return tuple(
        value
        for key, value in attributes.items()
        if key.startswith("llm.output_messages.") and key.endswith(".tool_call.id") and value and isinstance(value, str)
    )


def _model_texts(attributes: Attributes, answers: list[Any] | None) -> tuple[str | None, str | None]:
    messages = text.messages_of(attributes.get("gen_ai.input.messages"))
    took = (
        text.last_message(messages) if messages is not None else text.as_text(attributes.get("gen_ai.input.messages"))
    )
    gave = text.all_messages(answers) if answers is not None else text.as_text(attributes.get("gen_ai.output.messages"))
    if (took is None or gave is None) and any(key.startswith(_FLATTENED) for key in attributes):
        took = took or _flattened(attributes, "llm.input_messages.", "gen_ai.prompt.")
        gave = gave or _flattened(attributes, "llm.output_messages.", "gen_ai.completion.")
    plain = _plain_texts(attributes)
    return took or plain[0], gave or plain[1]


_FLATTENED: Final = ("llm.input_messages.", "llm.output_messages.", "gen_ai.prompt.", "gen_ai.completion.")


def _flattened(attributes: Attributes, openinference: str, openllmetry: str) -> str | None:
    messages = text.numbered(attributes, openinference)
    if messages:
        return text.flattened_message(messages[max(messages)])
    messages = text.numbered(attributes, openllmetry)
    return text.as_text(messages[max(messages)].get("content")) if messages else None


def _plain_texts(attributes: Attributes) -> tuple[str | None, str | None]:
    get = attributes.get
    return (
        text.as_text(get("input.value") or get("traceloop.entity.input")),
        text.as_text(get("output.value") or get("traceloop.entity.output")),
    )


def model_of(attributes: Attributes) -> str | None:
    """Return the name of the model in a span's attributes, or None."""
    return text_attribute(
        attributes, "gen_ai.request.model", "gen_ai.response.model", "llm.model_name", "embedding.model_name"
    )


def _usage(attributes: Attributes) -> SpanUsage | None:
    prompt = _first(attributes, "gen_ai.usage.input_tokens", "llm.token_count.prompt", "gen_ai.usage.prompt_tokens")
    completion = _first(
        attributes, "gen_ai.usage.output_tokens", "llm.token_count.completion", "gen_ai.usage.completion_tokens"
    )
    cost = _first(attributes, "llm.cost.total", "gen_ai.usage.cost")
    if prompt is None and completion is None and cost is None:
        return None
    usage = SpanUsage(_count(prompt), _count(completion), _cost(cost))
    return None if usage == _NO_USAGE else usage


_NO_USAGE: Final = SpanUsage(None, None, None)


def _count(value: Any) -> int | None:
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return value if type(value) is int and 0 <= value <= MAX_INT64 else None


def _cost(value: Any) -> float | None:
    if type(value) not in {int, float} or not math.isfinite(value):
        return None
    return float(value) if 0 <= value <= MAX_COST_USD else None


def _first(attributes: Attributes, *keys: str) -> Any:
    get = attributes.get
    for key in keys:
        value = get(key)
        if value is not None:
            return value
    return None


def _add(item: dict[str, Any], field: str, value: Any) -> None:
    if value is not None:
        item[field] = value


def _add_times(item: dict[str, Any], span: Span) -> None:
    item["started_at"] = format_time(span.start_us)
    if span.end_us is not None:
        end_us = max(span.end_us, span.start_us)
        item["ended_at"] = format_time(end_us)
        item["latency_ms"] = (end_us - span.start_us) / 1_000


def _add_error(item: dict[str, Any], outcome: SpanOutcome) -> None:
    if outcome.status is StepStatus.SUCCESS:
        return
    if outcome.error_class is not None:
        item["error_class"] = outcome.error_class[:MAX_SHORT_TEXT_CHARS]
    if outcome.error_message is not None:
        item["error_message"] = outcome.error_message[: text.MAX_OUTPUT_CHARS]


def _add_retries(item: dict[str, Any], attributes: Attributes) -> None:
    retries = attributes.get("http.request.resend_count")
    if type(retries) is int and 0 < retries <= MAX_INT64:
        item["retries"] = retries

"""Read the facts of a single span: its role, its outcome, and its step, tool call or event in the timeline.

No function here uses other spans; `projection.py` combines the facts of all spans of a trace. The attributes have the
names in `vocabulary.py`, because `dialects` has translated them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from relab.core.clock import format_time
from relab.telemetry.models import (
    CALL,
    EVENT,
    MAX_INT64,
    MAX_SHORT_TEXT_CHARS,
    MAX_STATUS_CODE,
    STEP,
    StepStatus,
)
from relab.telemetry.otlp import text
from relab.telemetry.otlp import vocabulary as v
from relab.telemetry.otlp.answers import answer_of
from relab.telemetry.otlp.arguments import given_arguments
from relab.telemetry.otlp.dialects import normalize
from relab.telemetry.otlp.messages import Message, ToolResult, last_shown, parsed, read_messages, read_result
from relab.telemetry.otlp.outcome import SpanOutcome, is_interrupted, outcome_of
from relab.telemetry.otlp.provider_errors import read_provider_error
from relab.telemetry.otlp.refusals import REFUSAL
from relab.telemetry.otlp.roles import Role, role_of
from relab.telemetry.otlp.spans import Attributes, Span
from relab.telemetry.otlp.talk import ANSWERING_TOOLS, Talk, talk_of
from relab.telemetry.otlp.usage import SpanUsage, usage_of
from relab.telemetry.outcome import is_cancellation, is_error_in_result

MAX_FINISH_REASONS = 20
MAX_FINISH_REASON_CHARS = 100

NO_ITEM: Final = -1
"""The kind of a span that is not an item of the timeline; the other kinds are those of `models.ITEM_KINDS`."""


class SpanFacts(NamedTuple):
    """The facts of one decoded span, from which runs are computed.

    Attributes:
        span: the span; its attributes have the names of `vocabulary.py`.
        resource: the attributes of the process that created the span.
        role: the role of the span, such as a call of a model or of a tool.
        outcome: the status of the span, and the error that it reports.
        kind: the kind of the span's timeline item (`STEP`, `CALL` or `EVENT`); `NO_ITEM` if the timeline hides the
            span.
        item: the fields of the timeline item, without references to other spans. Copy it before a change.
        usage: the tokens and the cost of a model's answer; None if the span reports neither.
        talk: the question, answer and tool calls that the span's messages contain.
        is_plumbing: whether the span is an internal step of a framework. The timeline hides it unless it explains an
            error. An internal span of a tool is not a call of its own if another tool call encloses it.
    """

    span: Span
    resource: Attributes
    role: Role
    outcome: SpanOutcome
    kind: int
    item: Mapping[str, Any]
    usage: SpanUsage | None
    talk: Talk = Talk()
    is_plumbing: bool = False


def facts_of(received: Span, resource: Attributes) -> SpanFacts:
    """Return the role, outcome, timeline item, tokens and messages of a span.

    `resource` has the attributes of the process that created the span.
    """
    span = normalize(received)
    role = role_of(span.attributes)
    outcome = outcome_of(span)
    if outcome.status is StepStatus.FAILURE and role in _SPEAKERS:
        span, outcome = _without_printed_error(span, outcome)
    if role is Role.OTHER:
        return SpanFacts(span, resource, role, outcome, NO_ITEM, {}, None, _talk_between(span.attributes))
    if role is Role.TOOL and text_attribute(span.attributes, v.TOOL_NAME) in ANSWERING_TOOLS:
        role = Role.CHAIN
        span.attributes[v.IS_PLUMBING] = True
    if role is Role.TOOL:
        item, outcome = _tool_call(span, outcome)
        is_plumbing = span.attributes.get(v.IS_PLUMBING) is True
        return SpanFacts(span, resource, role, outcome, CALL, item, None, is_plumbing=is_plumbing)
    if role is Role.RETRIEVER:
        return SpanFacts(span, resource, role, outcome, CALL, _retrieval(span, outcome), None)
    if role is Role.GUARDRAIL and _guardrail_triggered(span, outcome):
        return SpanFacts(span, resource, role, outcome, EVENT, _guardrail_event(span, outcome), None)
    return _step_facts(span, resource, role, outcome)


def _talk_between(attributes: Attributes) -> Talk:
    """Return the messages in a span without a known role (`OTHER`), such as a message from one agent to another.

    The result is empty if the span has no messages.
    """
    taken, given = attributes.get(v.INPUT_MESSAGES), attributes.get(v.OUTPUT_MESSAGES)
    if taken is None and given is None:
        return Talk()
    return talk_of(Role.CHAIN, attributes, read_messages(taken), read_messages(given))


_SPEAKERS: Final = (Role.LLM, Role.AGENT, Role.CHAIN)


def _without_printed_error(span: Span, outcome: SpanOutcome) -> tuple[Span, SpanOutcome]:
    """Return a failed span without an output that only prints the error; this output becomes the error message.

    BeeAI exports the printed error, with lines about its causes, as the output of a model or an agent. An output prints
    the error if its first lines are the class and the message of the span's error. Any other output is an answer: the
    span and its outcome are returned unchanged. (A model can answer although its span reports an error.)
    """
    output, message = span.attributes.get(v.OUTPUT), outcome.error_message
    name = (outcome.error_class or "").rpartition(".")[2]
    if not isinstance(output, str) or not name or not message or not output.startswith(name):
        return span, outcome
    printed = _MODULE.sub("", output[len(name) :], count=1)
    if not f"{printed}\n".startswith(f": {message}\n"):
        return span, outcome
    attributes = {key: value for key, value in span.attributes.items() if key != v.OUTPUT}
    return span._replace(attributes=attributes), outcome._replace(error_message=output)


_MODULE: Final = re.compile(r"\A\([\w.]{1,500}\)")


def _step_facts(span: Span, resource: Attributes, role: Role, outcome: SpanOutcome) -> SpanFacts:
    attributes = span.attributes
    usage = usage_of(attributes)
    taken = read_messages(attributes.get(v.INPUT_MESSAGES))
    if role is Role.LLM:
        given, shown = answer_of(attributes)
        item = _step(span, role, outcome, usage, (_model_input(attributes, taken), shown))
        reasons = _finish_reasons(attributes, given)
        if reasons is not None:
            item["finish_reasons"] = reasons
    else:
        given = read_messages(attributes.get(v.OUTPUT_MESSAGES))
        if role is Role.AGENT and outcome.status is StepStatus.SUCCESS and _was_cancelled(given):
            # Strands for TypeScript gives a notice in place of an answer.
            outcome, given = SpanOutcome(StepStatus.CANCELLED, None, last_shown(given or ())), []
        item = _step(span, role, outcome, usage, _plain_texts(attributes))
        target = text_attribute(attributes, v.HANDOVER_TO) if role is Role.HANDOFF else None
        if target is not None:
            item["name"] = f"handoff to {target}"[:MAX_SHORT_TEXT_CHARS]
        if span.events and is_interrupted(span):
            item["finish_reasons"] = ["interrupt"]
    talk = talk_of(role, attributes, taken, given)
    return SpanFacts(span, resource, role, outcome, STEP, item, usage, talk, attributes.get(v.IS_PLUMBING) is True)


def _was_cancelled(messages: list[Message] | None) -> bool:
    """Return whether the last message of an agent has a finish reason that names a cancellation."""
    return bool(messages) and is_cancellation((messages or [])[-1].finish_reason or "")


def text_attribute(attributes: Attributes, *keys: str, limit: int = MAX_SHORT_TEXT_CHARS) -> str | None:
    """Return the first non-empty text among the attributes `keys`, cut at `limit` characters; else None."""
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
    _add_error(item, outcome, attributes)
    took, gave = texts
    if took:
        item["input_summary"] = took[: text.MAX_INPUT_CHARS]
    if gave or (gave == "" and role is Role.LLM):
        item["output_summary"] = gave[: text.MAX_OUTPUT_CHARS]
    _add(item, "model", model_of(attributes))
    if usage is not None:
        _add(item, "tokens_prompt", usage.tokens_prompt)
        _add(item, "tokens_completion", usage.tokens_completion)
        _add(item, "tokens_cached", usage.tokens_cached)
        _add(item, "tokens_cache_write", usage.tokens_cache_write)
        _add(item, "tokens_reasoning", usage.tokens_reasoning)
    _add_retries(item, attributes)
    return item


_NO_RESULT: Final = ToolResult(None, None, None, is_error=False)


def _tool_call(span: Span, outcome: SpanOutcome) -> tuple[dict[str, Any], SpanOutcome]:
    """Return `(fields of the tool call, outcome)` of a tool's span.

    If the span reports success but the tool's result is an error, the outcome is a failure.
    """
    attributes = span.attributes
    captured = attributes.get(v.TOOL_RESULT)
    if captured is None:
        captured = attributes.get(v.OUTPUT)
    result = read_result(captured) if captured is not None else _NO_RESULT
    is_error = result.is_error or (result.text is not None and is_error_in_result(result.text))
    repeats_class = outcome.error_message is not None and outcome.error_message == outcome.error_class
    if is_error and (outcome.status is StepStatus.SUCCESS or repeats_class):
        outcome = SpanOutcome(StepStatus.FAILURE, outcome.error_class, result.text)
    name = text_attribute(attributes, v.TOOL_NAME)
    item: dict[str, Any] = {
        "call_id": span.span_id,
        "tool_name": name or span.name.removeprefix("execute_tool ")[:MAX_SHORT_TEXT_CHARS],
        "status": str(outcome.status),
        "span_kind": "tool",
    }
    _add_times(item, span)
    _add_error(item, outcome, attributes)
    arguments = attributes.get(v.TOOL_ARGUMENTS)
    if arguments is None:
        arguments = attributes.get(v.INPUT)
    if arguments is not None:
        item["args_json"] = given_arguments(arguments)
    if result.text:
        item["result_summary"] = result.text[: text.MAX_OUTPUT_CHARS]
    call_id = text_attribute(attributes, v.TOOL_CALL_ID) or result.call_id
    if call_id is not None and not call_id.startswith("<"):
        # Google ADK writes "<not specified>".
        item["tool_call_id"] = call_id[:MAX_SHORT_TEXT_CHARS]
    status_code = attributes.get(v.STATUS_CODE)
    if type(status_code) is int and 0 <= status_code <= MAX_STATUS_CODE:
        item["status_code"] = status_code
    _add_retries(item, attributes)
    return item, outcome


def _retrieval(span: Span, outcome: SpanOutcome) -> dict[str, Any]:
    attributes = span.attributes
    item: dict[str, Any] = {
        "call_id": span.span_id,
        "tool_name": text_attribute(attributes, v.DATA_SOURCE, v.TOOL_NAME) or span.name[:MAX_SHORT_TEXT_CHARS],
        "status": str(outcome.status),
        "span_kind": "retriever",
    }
    _add_times(item, span)
    _add_error(item, outcome, attributes)
    _add(item, "args_json", text.arguments_of(_first(attributes, v.RETRIEVAL_QUERY, v.INPUT)))
    found = _first(attributes, v.DOCUMENTS, v.OUTPUT)
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


_STOPPED: Final = (None, "stop", ["stop"], '["stop"]')
"""The finish reasons that say no more than that an answer ended."""


def _finish_reasons(attributes: Attributes, answers: list[Message] | None) -> list[str] | None:
    given = attributes.get(v.FINISH_REASONS)
    if given is None:
        given = [message.finish_reason for message in answers or () if message.finish_reason] or None
    if given in _STOPPED and answers and answers[-1].requests:
        # OpenAI's responses have no finish reason: instrumentations report none, or `stop`, also for a request of tools.
        return ["tool_calls"]
    if given in _STOPPED and answers and answers[-1].finish_reason == REFUSAL:
        # OpenAI's chat completions report `stop` beside a refusal.
        return [REFUSAL]
    if given is None:
        return None
    if isinstance(given, str) and given.startswith("["):
        given = parsed(given) or given
    reasons = given if isinstance(given, list) else [given]
    return [
        # Semantic Kernel prints a member of an enumeration, such as FinishReason.STOP.
        str(reason)[:MAX_FINISH_REASON_CHARS].removeprefix("FinishReason.")
        for reason in reasons[:MAX_FINISH_REASONS]
    ]


def _model_input(attributes: Attributes, taken: list[Message] | None) -> str | None:
    took = last_shown(taken) if taken is not None else text.as_text(attributes.get(v.INPUT_MESSAGES))
    return took or text.shown_text(attributes.get(v.INPUT))


def _plain_texts(attributes: Attributes) -> tuple[str | None, str | None]:
    return text.shown_text(attributes.get(v.INPUT)), text.shown_text(attributes.get(v.OUTPUT))


def model_of(attributes: Attributes) -> str | None:
    """Return the name of the model in a span's attributes; None if they name no model."""
    return text_attribute(attributes, v.REQUEST_MODEL, v.RESPONSE_MODEL)


_NO_PROVIDERS: Final = frozenset(("strands-agents",))
"""Names of frameworks that instrumentations report in place of the provider."""


def billed_model(attributes: Attributes) -> tuple[str | None, str | None]:
    """Return `(provider, model)` of a model call, as named in the table of prices; each is None if not known.

    Args:
        attributes: the attributes of the call's span. The model that answered has precedence over the requested model.
    """
    provider = text_attribute(attributes, v.PROVIDER, v.OLDER_PROVIDER)
    return None if provider in _NO_PROVIDERS else provider, text_attribute(
        attributes, v.RESPONSE_MODEL, v.REQUEST_MODEL
    )


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


def times_of(span: Span) -> dict[str, Any]:
    """Return the fields `started_at`, `ended_at` and `latency_ms` of a timeline item, from the times of its span.

    If the span has not ended, the result has only `started_at`.
    """
    item: dict[str, Any] = {}
    _add_times(item, span)
    return item


def _add_times(item: dict[str, Any], span: Span) -> None:
    item["started_at"] = format_time(span.start_us)
    if span.end_us is not None:
        end_us = max(span.end_us, span.start_us)
        item["ended_at"] = format_time(end_us)
        item["latency_ms"] = (end_us - span.start_us) / 1_000


def _add_error(item: dict[str, Any], outcome: SpanOutcome, attributes: Attributes) -> None:
    if outcome.status is StepStatus.SUCCESS:
        return
    if outcome.error_class is not None:
        item["error_class"] = outcome.error_class[:MAX_SHORT_TEXT_CHARS]
    if outcome.error_message is not None:
        item["error_message"] = outcome.error_message[: text.MAX_OUTPUT_CHARS]
    if outcome.status is StepStatus.FAILURE and item["span_kind"] in _PROVIDER_KINDS:
        item |= read_provider_error(outcome.error_class, outcome.error_message, attributes.get(v.STATUS_CODE))


_PROVIDER_KINDS: Final = frozenset((str(Role.LLM), str(Role.EMBEDDING), str(Role.RERANKER)))


def _add_retries(item: dict[str, Any], attributes: Attributes) -> None:
    retries = attributes.get(v.RESEND_COUNT)
    if type(retries) is int and 0 < retries <= MAX_INT64:
        item["retries"] = retries

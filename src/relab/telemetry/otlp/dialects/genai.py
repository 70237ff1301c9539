"""The dialect of former versions of OpenTelemetry's GenAI conventions: older names, and messages in span events.

Semantic Kernel, AutoGen, AWS Strands and OpenTelemetry's instrumentation of OpenAI use them.
"""

from __future__ import annotations

from typing import Any, Final

from relab.telemetry.otlp import vocabulary as v
from relab.telemetry.otlp.dialects.dialect import Dialect, Values, add
from relab.telemetry.otlp.media import content_text
from relab.telemetry.otlp.messages import parsed, read_messages
from relab.telemetry.otlp.roles import Role
from relab.telemetry.otlp.spans import Attributes, Span, SpanEvent

_INPUTS: Final = {
    "gen_ai.system.message": "system",
    "gen_ai.user.message": "user",
    "gen_ai.assistant.message": "assistant",
    "gen_ai.tool.message": "tool",
}
_CHOICE: Final = "gen_ai.choice"
_PROMPT: Final = "gen_ai.content.prompt"
_COMPLETION: Final = "gen_ai.content.completion"
_DETAILS: Final = "gen_ai.client.inference.operation.details"
_USAGE: Final = "gen_ai.usage"
"""The event in which Ax for TypeScript reports tokens, beside its messages."""
_EVENTS: Final = frozenset((*_INPUTS, _CHOICE, _PROMPT, _COMPLETION, _DETAILS))


def has_genai_events(events: tuple[SpanEvent, ...]) -> bool:
    """Return whether an event has one of OpenTelemetry's names for GenAI events, which hold messages."""
    return any(event.name in _EVENTS for event in events)


def _translate_older(span: Span, values: Values) -> None:
    for attribute, name in (("gen_ai.prompt", v.INPUT_MESSAGES), ("gen_ai.completion", v.OUTPUT_MESSAGES)):
        value = span.attributes.get(attribute)
        if value is not None:
            messages = read_messages(value)
            add(values, name if messages else v.INPUT if name == v.INPUT_MESSAGES else v.OUTPUT, value)
            if v.OPERATION not in values and v.REQUEST_MODEL not in values and v.TOOL_NAME not in values:
                # OpenLIT reports a traced function in this way: the span has texts of a conversation, but the function
                # calls no model itself.
                values.setdefault(v.ROLE, Role.CHAIN)


OLDER_GENAI = Dialect(
    name="OpenTelemetry GenAI, older names",
    signs=frozenset(
        (
            "gen_ai.usage.prompt_tokens",
            "gen_ai.usage.completion_tokens",
            "gen_ai.usage.cost",
            "gen_ai.usage.cache_read_input_tokens",
            "gen_ai.usage.cache_creation_input_tokens",
            "gen_ai.usage.cache_write_input_tokens",
            "gen_ai.usage.input_tokens.cached",
            "gen_ai.usage.reasoning_tokens",
            "gen_ai.usage.output_tokens.reasoning",
            "gen_ai.retrieval.query",
            "gen_ai.prompt",
            "gen_ai.completion",
            "gen_ai.response.finish_reason",
        )
    ),
    names=(
        ("gen_ai.usage.prompt_tokens", v.INPUT_TOKENS),
        ("gen_ai.usage.completion_tokens", v.OUTPUT_TOKENS),
        ("gen_ai.usage.cache_read_input_tokens", v.CACHED_TOKENS),
        ("gen_ai.usage.input_tokens.cached", v.CACHED_TOKENS),
        ("gen_ai.usage.cache_creation_input_tokens", v.CACHE_WRITE_TOKENS),
        ("gen_ai.usage.cache_write_input_tokens", v.CACHE_WRITE_TOKENS),
        ("gen_ai.usage.reasoning_tokens", v.REASONING_TOKENS),
        ("gen_ai.usage.output_tokens.reasoning", v.REASONING_TOKENS),
        ("gen_ai.usage.cost", v.COST_USD),
        ("gen_ai.response.finish_reason", v.FINISH_REASONS),
        ("gen_ai.retrieval.query", v.RETRIEVAL_QUERY),
    ),
    translate=_translate_older,
)


def _translate_events(span: Span, values: Values) -> None:
    if values.get(v.OPERATION) == "execute_tool" or values.get(v.ROLE) is Role.TOOL:
        _translate_tool_events(span, values)
        return
    inputs: list[Any] = []
    outputs: list[Any] = []
    for event in sorted(span.events, key=lambda event: event.time_us):
        fields = _fields(event)
        if event.name in _INPUTS:
            inputs.extend(_as_messages(fields, _INPUTS[event.name]))
        elif event.name == _CHOICE:
            outputs.extend(_as_messages(fields, "assistant"))
        elif event.name == _PROMPT:
            inputs.extend(_listed(fields.get("gen_ai.prompt")))
        elif event.name == _COMPLETION:
            outputs.extend(_listed(fields.get("gen_ai.completion")))
        elif event.name == _DETAILS:
            inputs.extend(_listed(fields.get(v.INPUT_MESSAGES)))
            outputs.extend(_listed(fields.get(v.OUTPUT_MESSAGES)))
        elif event.name == _USAGE:
            for name in (v.INPUT_TOKENS, v.OUTPUT_TOKENS):
                add(values, name, fields.get(name))
    add(values, v.INPUT_MESSAGES, inputs or None)
    add(values, v.OUTPUT_MESSAGES, outputs or None)


def _translate_tool_events(span: Span, values: Values) -> None:
    for event in span.events:
        fields = _fields(event)
        content = fields.get("content", fields.get("message"))
        if event.name == "gen_ai.tool.message":
            add(values, v.TOOL_ARGUMENTS, content)
        elif event.name == _CHOICE:
            listed = parsed(content) if isinstance(content, str) and content.startswith("[") else content
            add(values, v.TOOL_RESULT, content_text(listed))
        add(values, v.TOOL_CALL_ID, fields.get("id"))


def _fields(event: SpanEvent) -> Attributes:
    """Return the attributes of an event together with the fields of its body.

    The body is a JSON object with a message; without a body, only the attributes are returned.
    """
    for key in ("body", "gen_ai.event.content", "event_body"):
        body = event.attributes.get(key)
        if isinstance(body, str) and body.startswith("{"):
            body = parsed(body)
        if isinstance(body, dict):
            return {**event.attributes, **body}
    return event.attributes


def _as_messages(fields: Attributes, role: str) -> list[Any]:
    """Return a list with the one message that an event holds.

    If the content of the message was not captured, the message has only its role and finish reason. Without a finish
    reason, the list is empty.

    Args:
        fields: the fields of the event. The content of the message is a text, a list of parts, or JSON of such a list.
        role: the role of the message, unless the event has a message object that states another role.
    """
    message = fields.get("message")
    content = fields.get("content", message if not isinstance(message, dict) else None)
    if isinstance(content, str) and content.startswith("["):
        listed = parsed(content)
        content = listed if isinstance(listed, list) else content
    if isinstance(message, str) and message.startswith(("[", "{")):
        message = parsed(message)
    finish = fields.get("finish_reason")
    # Another object is an answer of the structure that the program asked for.
    if isinstance(message, dict) and not _OF_MESSAGES.isdisjoint(message):
        return [{"role": role, **message, "finish_reason": finish}]
    calls = fields.get("tool_calls")
    if isinstance(calls, str):
        calls = parsed(calls)
    if content is None and calls is None:
        return [{"role": role, "finish_reason": finish}] if finish is not None else []
    return [{"role": role, "content": content, "tool_calls": calls, "id": fields.get("id"), "finish_reason": finish}]


_OF_MESSAGES: Final = frozenset(("role", "content", "parts", "tool_calls"))
"""Fields by which an object is a message."""


def _listed(value: Any) -> list[Any]:
    if isinstance(value, str):
        found = parsed(value) if value.startswith(("[", "{")) else None
        value = found if found is not None else [value]
    return value if isinstance(value, list) else [value] if isinstance(value, dict) else []


GENAI_EVENTS = Dialect(name="OpenTelemetry GenAI, messages as events", signs=frozenset(), translate=_translate_events)

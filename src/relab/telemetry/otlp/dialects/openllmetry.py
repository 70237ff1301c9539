"""OpenLLMetry (Traceloop): spans of decorated functions (entities), and messages of models as numbered attributes."""

from __future__ import annotations

from typing import Any, Final

from relab.telemetry.otlp import vocabulary as v
from relab.telemetry.otlp.dialects.dialect import Dialect, Values, add, text_of
from relab.telemetry.otlp.messages import parsed
from relab.telemetry.otlp.roles import Role
from relab.telemetry.otlp.spans import Span
from relab.telemetry.otlp.text import numbered

_KIND: Final = "traceloop.span.kind"
_WRAPPERS: Final = ("tags", "metadata", "kwargs", "input_str")
_PROPERTIES: Final = "traceloop.association.properties."


def _translate(span: Span, values: Values) -> None:
    attributes = span.attributes
    for prefix, name in (("gen_ai.prompt.", v.INPUT_MESSAGES), ("gen_ai.completion.", v.OUTPUT_MESSAGES)):
        if values.get(name) is None:
            messages = numbered(attributes, prefix)
            if messages:
                values[name] = [_message(fields) for _, fields in sorted(messages.items()) if fields.keys() != {""}]
    entity = text_of(attributes, "traceloop.entity.name")
    role = values.get(v.ROLE)
    if role is Role.TOOL:
        add(values, v.TOOL_NAME, entity)
        add(values, v.TOOL_ARGUMENTS, attributes.get("traceloop.entity.input"))
        add(values, v.TOOL_RESULT, attributes.get("traceloop.entity.output"))
        # For LangChain, the current names have the same wrappers.
        values[v.TOOL_ARGUMENTS] = _inner(values.get(v.TOOL_ARGUMENTS), "inputs")
        values[v.TOOL_RESULT] = _inner(values.get(v.TOOL_RESULT), "output")
        _unwrap_mcp(values)
    elif role is Role.AGENT:
        add(values, v.AGENT_NAME, entity)
    elif role is Role.CHAIN and attributes.get(_KIND) == "workflow":
        add(values, v.WORKFLOW_NAME, entity)
    for key in ("session_id", "thread_id", "conversation_id", "chat_id"):
        add(values, v.CONVERSATION_ID, attributes.get(_PROPERTIES + key))
    add(values, v.USER_ID, attributes.get(f"{_PROPERTIES}user_id"))
    if v.OPERATION in values or role is not None:
        add(values, v.AGENT_NAME, attributes.get(f"{_PROPERTIES}lc_agent_name"))


def _message(fields: dict[str, Any]) -> dict[str, Any]:
    """Return a chat completion message. `fields` are the fields of the message, read from the attributes of a span."""
    message: dict[str, Any] = {
        key: fields[key] for key in ("role", "content", "tool_call_id", "finish_reason") if key in fields
    }
    content = message.get("content")
    if isinstance(content, str) and content.startswith("[{"):
        parts = parsed(content)
        message["content"] = parts if isinstance(parts, list) else content
    calls = numbered(fields, "tool_calls.")
    if calls:
        message["tool_calls"] = [call for _, call in sorted(calls.items())]
    return message or fields


def _inner(value: Any, key: str) -> Any:
    """Return the input or output of a span without its wrapper; return values without a wrapper unchanged.

    Callback handlers of LangChain wrap the value in a JSON object, under `key`, beside fields such as `tags`.
    """
    found = parsed(value) if isinstance(value, str) and value.startswith("{") else None
    if not isinstance(found, dict) or key not in found or not found.keys() <= {key, *_WRAPPERS} or len(found) == 1:
        return value
    inner = found[key]
    if isinstance(inner, dict) and "lc" in inner and isinstance(inner.get("kwargs"), dict):
        # A message of LangChain, as it is serialised.
        return {"type": "tool", **inner["kwargs"]}
    return inner


def _unwrap_mcp(values: Values) -> None:
    """Unwrap the arguments and the result of a tool, which the instrumentation of MCP clients wraps in objects."""
    given = values[v.TOOL_ARGUMENTS]
    wrapped = parsed(given) if isinstance(given, str) and given.startswith('{"tool_name"') else None
    if not isinstance(wrapped, dict) or wrapped.keys() != {"tool_name", "arguments"}:
        return
    values[v.TOOL_ARGUMENTS] = wrapped["arguments"]
    output = values[v.TOOL_RESULT]
    result = parsed(output) if isinstance(output, str) and output.startswith("{") else None
    if isinstance(result, dict) and "result" in result and result.keys() <= {"result", "is_error"}:
        values[v.TOOL_RESULT] = {"role": "tool", "content": result["result"], "is_error": result.get("is_error")}


OPENLLMETRY = Dialect(
    name="OpenLLMetry",
    signs=frozenset(
        (
            _KIND,
            "traceloop.entity.name",
            "traceloop.workflow.name",
            "llm.request.type",
            "gen_ai.prompt.0.role",
            "gen_ai.prompt.0.content",
            "gen_ai.completion.0.role",
            "gen_ai.completion.0.content",
            "gen_ai.completion.0.finish_reason",
            f"{_PROPERTIES}session_id",
            f"{_PROPERTIES}user_id",
        )
    ),
    names=(
        ("traceloop.entity.input", v.INPUT),
        ("traceloop.entity.output", v.OUTPUT),
        ("traceloop.workflow.name", v.WORKFLOW_NAME),
    ),
    roles={_KIND: {"workflow": Role.CHAIN, "task": Role.CHAIN, "agent": Role.AGENT, "tool": Role.TOOL}},
    translate=_translate,
)

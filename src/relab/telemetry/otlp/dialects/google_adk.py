"""The dialect of Google's Agent Development Kit (ADK).

It reads Gemini's requests and responses, which are attributes with JSON texts. Other attributes have OpenTelemetry's
GenAI names.
"""

from __future__ import annotations

from typing import Any, Final

from relab.telemetry.otlp import vocabulary as v
from relab.telemetry.otlp.dialects.dialect import Dialect, Values, add, text_of
from relab.telemetry.otlp.messages import parsed, read_messages
from relab.telemetry.otlp.roles import Role
from relab.telemetry.otlp.spans import Span

_PREFIX: Final = "gcp.vertex.agent."
_EMPTY: Final = ("", "{}", "N/A", "<not specified>", "<not serializable>")


def _translate(span: Span, values: Values) -> None:
    attributes = span.attributes
    if span.name == "call_llm":
        values.setdefault(v.ROLE, Role.LLM)
    elif span.name == "invocation":
        values.setdefault(v.ROLE, Role.CHAIN)
    elif span.name.startswith("execute_tool (merged)"):
        # A copy of the results of parallel tool calls, each of which has a span of its own.
        values[v.IS_PLUMBING] = True
        values[v.ROLE] = Role.CHAIN
        values.pop(v.OPERATION, None)
        values.pop(v.TOOL_NAME, None)
    for key, name in (("tool_call_args", v.TOOL_ARGUMENTS), ("tool_response", v.TOOL_RESULT)):
        value = attributes.get(_PREFIX + key)
        if value not in _EMPTY:
            add(values, name, value)
    if v.TOOL_RESULT in values:
        values[v.TOOL_RESULT] = _result(values[v.TOOL_RESULT])
    if span.name.startswith("generate_content"):
        values[v.OUTPUT_MESSAGES] = _without_pieces(values.get(v.OUTPUT_MESSAGES))
    request = parsed(text_of(attributes, f"{_PREFIX}llm_request") or "")
    if isinstance(request, dict):
        add(values, v.INPUT_MESSAGES, _listed(request.get("contents")))
        add(values, v.REQUEST_MODEL, request.get("model"))
    response = parsed(text_of(attributes, f"{_PREFIX}llm_response") or "")
    if isinstance(response, dict):
        add(values, v.OUTPUT_MESSAGES, _listed(response.get("content")))
        usage = response.get("usage_metadata")
        _add_usage(usage if isinstance(usage, dict) else {}, values)


def _add_usage(usage: dict[str, Any], values: Values) -> None:
    """Add Gemini's token counts (`usage`) to `values`, under the names of `vocabulary.py`."""
    answered = usage.get("candidates_token_count", values.get(v.OUTPUT_TOKENS))
    thought = usage.get("thoughts_token_count", values.get("gen_ai.usage.experimental.reasoning_tokens"))
    add(values, v.INPUT_TOKENS, usage.get("prompt_token_count"))
    add(values, v.CACHED_TOKENS, usage.get("cached_content_token_count"))
    add(values, v.REASONING_TOKENS, thought)
    # Gemini's count of answer tokens does not include reasoning tokens; the output count in `values` must.
    if type(thought) is int and values.get(v.OUTPUT_TOKENS) in (None, answered):
        values[v.OUTPUT_TOKENS] = (answered if type(answered) is int else 0) + thought
    add(values, v.OUTPUT_TOKENS, answered)


def _without_pieces(value: Any) -> Any:
    """Return the messages of a model's answer (`value`) without the pieces in which the answer was streamed.

    The messages before the last one are pieces if their joined texts equal the text of the last message, and if none of
    them requests a tool. Then the result is a list with only the last message; otherwise `value` unchanged.
    """
    given = read_messages(value) if value is not None else None
    if given is None or len(given) < 2 or "".join(message.text or "" for message in given[:-1]) != given[-1].text:
        return value
    if any(message.requests for message in given[:-1]):
        return value
    found = parsed(value) if isinstance(value, str) else value
    return found[-1:] if isinstance(found, list) and len(found) == len(given) else value


def _result(value: Any) -> Any:
    """Return `text` from `{"result": text}`, the object in which Google's ADK wraps a result.

    Other values are returned unchanged.
    """
    found = parsed(value) if isinstance(value, str) and value.startswith("{") else value
    if isinstance(found, dict) and len(found) == 1 and isinstance(found.get("result"), str):
        return found["result"]
    return value


def _listed(value: Any) -> list[Any] | None:
    if isinstance(value, dict):
        return [value]
    return value if isinstance(value, list) and value else None


GOOGLE_ADK = Dialect(
    name="Google ADK",
    signs=frozenset(
        f"{_PREFIX}{key}"
        for key in ("llm_request", "tool_call_args", "tool_response", "session_id", "invocation_id", "event_id")
    ),
    names=((f"{_PREFIX}session_id", v.CONVERSATION_ID), (f"{_PREFIX}user_id", v.USER_ID)),
    translate=_translate,
)

"""The dialect of AutoGen: read the messages between a team's agents from the JSON on spans of AutoGen's runtime."""

from __future__ import annotations

from typing import Any, Final

from relab.telemetry.otlp import vocabulary as v
from relab.telemetry.otlp.dialects.dialect import Dialect, Values, add, text_of
from relab.telemetry.otlp.messages import parsed
from relab.telemetry.otlp.spans import Span

_USER: Final = "user"


def _translate(span: Span, values: Values) -> None:
    text = text_of(span.attributes, "message")
    content = parsed(text) if text is not None and text.startswith("{") else None
    if not isinstance(content, dict):
        return
    listed = content.get("messages")
    messages = listed if isinstance(listed, list) else [content.get("message")]
    taken: list[dict[str, Any]] = []
    given: list[dict[str, Any]] = []
    for message in messages:
        if isinstance(message, dict):
            _add_message(message, taken, given)
    add(values, v.INPUT_MESSAGES, taken or None)
    add(values, v.OUTPUT_MESSAGES, given or None)


def _add_message(message: dict[str, Any], taken: list[dict[str, Any]], given: list[dict[str, Any]]) -> None:
    """Convert a message of AutoGen's AgentChat, and append it to the input (`taken`) or the output (`given`) of a span.

    Tool results and texts of the user are input. Tool requests and all other texts are output. Messages of other types
    are ignored.
    """
    kind, content = message.get("type"), message.get("content")
    parts = [part for part in content if isinstance(part, dict)] if isinstance(content, list) else []
    if kind == "ToolCallRequestEvent":
        given.append({"role": "assistant", "tool_calls": parts})
    elif kind == "ToolCallExecutionEvent":
        results = [
            {
                "type": "tool_call_response",
                "id": part.get("call_id"),
                "name": part.get("name"),
                "response": part.get("content"),
                "is_error": part.get("is_error") is True,
            }
            for part in parts
        ]
        taken.append({"role": "tool", "parts": results})
    elif kind == "TextMessage" and isinstance(content, str):
        if message.get("source") == _USER:
            taken.append({"role": "user", "content": content})
        else:
            given.append({"role": "assistant", "content": content})


AUTOGEN = Dialect(
    name="AutoGen",
    signs=frozenset(("recipient_agent_class",)),
    translate=_translate,
)

"""Haystack, traced by OpenInference: messages, tool calls and results appear only as text that Python printed."""

from __future__ import annotations

from typing import Any, Final

from relab.telemetry.otlp import vocabulary as v
from relab.telemetry.otlp.dialects.dialect import Dialect, Values, add, text_of
from relab.telemetry.otlp.messages import parsed
from relab.telemetry.otlp.printed import read_printed
from relab.telemetry.otlp.spans import Span

_STARTS: Final = ('{"messages": ["ChatMessage(_role=', '{"replies": ["ChatMessage(_role=')
_MAX_MESSAGES: Final = 1_000


def _translate(span: Span, values: Values) -> None:
    for attribute, name in (("input.value", v.INPUT_MESSAGES), ("output.value", v.OUTPUT_MESSAGES)):
        text = text_of(span.attributes, attribute)
        if text is not None and text.startswith(_STARTS):
            add(values, name, _messages(text))


def _messages(text: str) -> list[Any] | None:
    """Return the messages in the JSON of a Haystack component's input or output.

    Return None if the JSON has no messages, or if one of them cannot be read.
    """
    fields = parsed(text)
    if not isinstance(fields, dict):
        return None
    printed = fields.get("messages") or fields.get("replies")
    if not isinstance(printed, list):
        return None
    found = [read_printed(message) for message in printed[-_MAX_MESSAGES:] if isinstance(message, str)]
    if not found or not all(isinstance(message, dict) for message in found):
        return None
    return [{"role": message.get("_role"), "parts": _parts(message.get("_content"))} for message in found]


def _parts(content: Any) -> list[dict[str, Any]]:
    parts: list[dict[str, Any]] = []
    for part in content if isinstance(content, list) else ():
        if not isinstance(part, dict):
            continue
        if "tool_name" in part:
            given = {"id": part.get("id"), "name": part["tool_name"], "arguments": part.get("arguments")}
            parts.append({"type": "tool_call", **given})
        elif isinstance(part.get("origin"), dict):
            origin = part["origin"]
            given = {"id": origin.get("id"), "name": origin.get("tool_name"), "response": part.get("result")}
            parts.append({"type": "tool_call_response", "is_error": part.get("error") is True, **given})
        elif isinstance(part.get("text"), str):
            parts.append({"type": "text", "content": part["text"]})
    return parts


HAYSTACK = Dialect(
    name="Haystack",
    signs=frozenset(("input.value", "output.value")),
    translate=_translate,
)

"""Extract the texts of a span that a run shows: its input and its output.

Message bodies are opt-in in OpenTelemetry, so the functions here return None if
no text was captured. Long texts are cut; the raw span has the complete texts.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jiter
import pydantic_core

from relab.core.errors import MalformedBodyError
from relab.core.json import JsonValue, parse_json
from relab.telemetry.otlp.spans import Attributes, clean_text

MAX_INPUT_CHARS = 4_000
MAX_OUTPUT_CHARS = 16_000
MAX_ARGUMENT_CHARS = 32_000


def cut(text: str | None, limit: int) -> str | None:
    """Return the first `limit` characters of a text; None if it is None or empty."""
    return text[:limit] if text else None


def as_text(value: Any) -> str | None:
    """Return a captured value as text: None and strings unchanged, other values as JSON."""
    if value is None or isinstance(value, str):
        return value
    return pydantic_core.to_json(value).decode()


def arguments_of(value: Any) -> JsonValue:
    """Return the arguments of a call: parsed if they are a JSON object or array, else as the captured text."""
    if not isinstance(value, str):
        text = as_text(value)
        return value if text is None or len(text) <= MAX_ARGUMENT_CHARS else text[:MAX_ARGUMENT_CHARS]
    if len(value) > MAX_ARGUMENT_CHARS or not value.lstrip().startswith(("{", "[")):
        # A text that resembles a number must remain text.
        return value[:MAX_ARGUMENT_CHARS]
    try:
        return parse_json(value.encode())
    except MalformedBodyError:
        return value


def messages_of(value: Any) -> list[Any] | None:
    """Return a list of messages (GenAI `gen_ai.input.messages`) from a list or its JSON; None for any other value."""
    if isinstance(value, str):
        if not value.startswith("["):
            return None
        try:
            value = jiter.from_json(value.encode(), allow_inf_nan=False)
        except ValueError:
            return None
    return value if isinstance(value, list) else None


def last_message(messages: list[Any]) -> str | None:
    """Return the text of the last message, or None."""
    return clean_text(_message_text(messages[-1]) or "") or None if messages else None


def all_messages(messages: list[Any]) -> str | None:
    """Return the text of all messages, including tool calls, or None."""
    return clean_text("\n".join(text for text in map(_message_text, messages) if text)) or None


def requested_calls(messages: list[Any]) -> list[str]:
    """Return the ids of the tool calls that messages request."""
    return [
        part["id"]
        for message in messages
        for part in _parts(message)
        if isinstance(part, dict) and part.get("type") == "tool_call" and part.get("id") and isinstance(part["id"], str)
    ]


def finish_reasons(messages: list[Any]) -> list[str]:
    """Return the finish reasons of a model's messages that have one."""
    reasons = [message.get("finish_reason") for message in messages if isinstance(message, dict)]
    return [clean_text(reason) for reason in reasons if reason and isinstance(reason, str)]


def numbered(attributes: Attributes, prefix: str) -> dict[int, dict[str, Any]]:
    """Return flattened lists (`llm.input_messages.0.message.role`) as `{index: {rest of the key: value}}`."""
    found: dict[int, dict[str, Any]] = {}
    for key, value in attributes.items():
        if key.startswith(prefix):
            index, _, rest = key[len(prefix) :].partition(".")
            if index.isascii() and index.isdigit() and len(index) <= 6:
                found.setdefault(int(index), {})[rest] = value
    return found


def flattened_message(fields: dict[str, Any]) -> str | None:
    """Return the text of one flattened OpenInference message, including its tool calls."""
    parts = [as_text(fields.get("message.content"))]
    contents = numbered(fields, "message.contents.")
    parts.extend(as_text(content.get("message_content.text")) for _, content in sorted(contents.items()))
    calls = numbered(fields, "message.tool_calls.")
    parts.extend(
        f"{call.get('tool_call.function.name', '')}({call.get('tool_call.function.arguments', '')})"
        for _, call in sorted(calls.items())
    )
    return "\n".join(part for part in parts if part) or None


def _parts(message: Any) -> list[Any]:
    parts = message.get("parts") if isinstance(message, dict) else None
    return parts if isinstance(parts, list) else []


def _message_text(message: Any) -> str | None:
    if not isinstance(message, dict):
        return as_text(message)
    parts = _parts(message)
    if not parts:
        return as_text(message.get("content")) or as_text(message)
    return "\n".join(text for text in map(_part_text, parts) if text) or None


def _part_text(part: Any) -> str | None:
    if not isinstance(part, dict):
        return as_text(part)
    if part.get("type") == "tool_call":
        return f"{part.get('name', '')}({as_text(part.get('arguments')) or ''})"
    for key in ("content", "result", "response"):
        if key in part:
            return as_text(part[key])
    return as_text(part)


class ToolMessage(NamedTuple):
    """The result of a tool: its text, whether it reports an error, and the id of the call."""

    text: str | None
    is_error: bool = False
    tool_call_id: str | None = None


def tool_message(value: Any) -> ToolMessage:
    """Read the result of a tool.

    LangChain wraps the result in a message. A tool node that handles errors ends its span successfully and
    reports the error in the message; the results of MCP tools do the same (`isError`).
    """
    given = value
    if isinstance(value, str) and value.startswith("{"):
        try:
            value = jiter.from_json(value.encode(), allow_inf_nan=False)
        except ValueError:
            return ToolMessage(given)
    if not isinstance(value, dict):
        return ToolMessage(as_text(given))
    if value.get("type") == "tool":
        message = value["data"] if isinstance(value.get("data"), dict) else value
        if "content" in message:
            content = clean_text(as_text(message["content"]) or "") or None
            call_id = message.get("tool_call_id")
            return ToolMessage(
                content, message.get("status") == "error", clean_text(call_id) if isinstance(call_id, str) else None
            )
    return ToolMessage(as_text(given), value.get("isError") is True)

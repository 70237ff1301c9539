"""Read the messages of language models, in the formats that clients and instrumentations send.

A message has a role, a text, tool requests and tool results. The formats name these fields differently. They are the
formats of OpenTelemetry, OpenAI (chat completions and responses), Anthropic, Gemini, Bedrock, LangChain, the Vercel AI
SDK and pydantic-ai. A message in another format is read as a text.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, Final, NamedTuple

import jiter

from relab.core.json import JsonValue
from relab.telemetry.otlp.arguments import clean_arguments
from relab.telemetry.otlp.media import content_text, medium_of
from relab.telemetry.otlp.printed import read_printed
from relab.telemetry.otlp.refusals import REFUSAL, refusal_of
from relab.telemetry.otlp.spans import clean_text
from relab.telemetry.otlp.text import as_text

MAX_ID_CHARS = 500
MAX_TOOL_NAME_CHARS = 1_000


class ToolRequest(NamedTuple):
    """A model's request to call the tool `name`; `call_id` is the id of the call, None if the model gave it no id."""

    call_id: str | None
    name: str
    arguments: JsonValue


class ToolResult(NamedTuple):
    """The result of a tool call, as a message returns it to the model.

    `call_id` is the id of the request, `name` the name of the tool. `call_id`, `name` and `text` are None if the
    message does not have them.
    """

    call_id: str | None
    name: str | None
    text: str | None
    is_error: bool


class Message(NamedTuple):
    """One message of a conversation with a model.

    `role` is `system`, `user`, `assistant`, `tool` or another text; empty if unknown.

    `text` is what the author wrote, without reasoning, tool requests and tool results; None if the message has no text.
    It is empty if the message has only empty texts, and neither tool requests nor tool results.
    """

    role: str
    text: str | None = None
    requests: tuple[ToolRequest, ...] = ()
    results: tuple[ToolResult, ...] = ()
    finish_reason: str | None = None

    def shown(self) -> str | None:
        """Return the message as one text for a timeline, with tool requests and results; None if it is empty."""
        parts = [self.text, *(result.text for result in self.results)]
        parts.extend(f"{request.name}({as_text(request.arguments) or ''})" for request in self.requests)
        return "\n".join(part for part in parts if part) or None


def read_messages(value: Any) -> list[Message] | None:
    """Return the messages in the input or output that a span captured.

    `value` is a list of messages, one message, an object with a list of messages, or the JSON of one of these. Return
    None for any other value, such as a plain text.
    """
    if isinstance(value, str):
        if not value.startswith(("[", "{")):
            return None
        value = parsed(value)
    if isinstance(value, dict):
        found = next((value[key] for key in _LISTS if isinstance(value.get(key), list)), None)
        value = found if found is not None else [value] if _is_message(value) else None
    if not isinstance(value, list):
        return None
    return [message for item in value for message in _read_item(item)]


def parsed(text: str) -> Any:
    """Return the JSON value of a text; None if it is not JSON."""
    try:
        return jiter.from_json(text.encode(), allow_inf_nan=False)
    except ValueError:
        return None


def last_shown(messages: Iterable[Message]) -> str | None:
    """Return the last message as text (`Message.shown`); None if there is no message, or if this text is empty."""
    listed = list(messages)
    return listed[-1].shown() if listed else None


def all_shown(messages: Iterable[Message]) -> str | None:
    """Return all messages as text (`Message.shown`), one below the other; None if all are empty."""
    return "\n".join(text for message in messages if (text := message.shown())) or None


_LISTS: Final = ("messages", "contents", "choices", "input", "output")
_ROLES: Final = {
    "human": "user",
    "ai": "assistant",
    "model": "assistant",
    "HumanMessage": "user",
    "HumanMessageChunk": "user",
    "AIMessage": "assistant",
    "AIMessageChunk": "assistant",
    "SystemMessage": "system",
    "ToolMessage": "tool",
    "MessageRole.USER": "user",
    "MessageRole.ASSISTANT": "assistant",
    "MessageRole.SYSTEM": "system",
    "MessageRole.TOOL": "tool",
    "tool-call": "assistant",
    "tool-response": "tool",
    "response": "assistant",
    "request": "user",
}
_TEXT_PARTS: Final = frozenset(("", "text", "input_text", "output_text", "user_prompt", "system_prompt", "refusal"))
_SILENT_PARTS: Final = frozenset((
    "thinking", "reasoning", "redacted_thinking", "step_start", "function_approval_request", "function_approval_response",
))  # fmt: skip
_REQUESTS: Final = frozenset(("tool_call", "tool_use", "function_call", "server_tool_call", "mcp_call"))
_RESULT_PARTS: Final = frozenset((
    "tool_call_response", "tool_result", "tool_return", "tool_error", "function_call_output", "function_response", "tool_response",
))  # fmt: skip
_WRAPPED: Final = {
    "function_call": "tool_call",
    "functionCall": "tool_call",
    "toolUse": "tool_call",
    "function_response": "tool_result",
    "functionResponse": "tool_result",
    "toolResult": "tool_result",
    "toolRequest": "tool_call",
    "toolResponse": "tool_result",
}
"""Parts of messages in the formats of Gemini, Bedrock and Genkit: the only key is the kind of the part."""
_CALL_IDS: Final = ("call_id", "id", "tool_call_id", "toolCallId", "toolUseId", "tool_use_id", "ref")
_RESULT_IDS: Final = ("ref", "tool_use_id", "toolUseId", "toolCallId", "tool_call_id", "call_id", "id")
_NAMES: Final = ("name", "tool_name", "toolName")
_ARGUMENTS: Final = ("arguments", "args", "input", "tool_kwargs", "parameters")
_CONTENTS: Final = ("response", "result", "output", "content", "errorText", "error")
_HEAD: Final = frozenset(("role", "finish_reason", "finishReason"))
"""The fields of a message that are not content."""
_MESSAGE_KEYS: Final = ("role", "parts", "blocks", "content", "tool_calls", "message", "kwargs", "part_kind")


def _is_message(value: dict[str, Any]) -> bool:
    return any(key in value for key in _MESSAGE_KEYS) or _kind(value) in _REQUESTS | _RESULT_PARTS


def _read_item(item: Any) -> list[Message]:
    if isinstance(item, list):
        # LangChain sends a list of messages for each prompt.
        return [message for inner in item for message in _read_item(inner)] if item else [Message("", "[]")]
    return [_read(item)]


def _read(given: Any) -> Message:
    if not isinstance(given, dict):
        return Message("", _clean(as_text(given)))
    message, role = _unwrapped(given)
    if (refused := refusal_of(message)) is not None:
        return Message(role or "assistant", clean_text(refused), (), (), REFUSAL)
    finish = message.get("finish_reason") or given.get("finish_reason") or message.get("finishReason")
    reason = clean_text(finish) if isinstance(finish, str) and finish else None
    gathered = _Gathered()
    if _kind(message) in _REQUESTS | _RESULT_PARTS and "role" not in message:
        gathered.add(message)
    else:
        _gather(message, role, gathered)
    if not role:
        role = "assistant" if gathered.requests else "tool" if gathered.results else ""
    text = "\n".join(gathered.texts) or None
    if text is None and not gathered.requests and not gathered.results:
        text = "" if gathered.has_empty_text else None if gathered.is_known else _clean(as_text(given))
    return Message(role, text, tuple(gathered.requests), tuple(gathered.results), reason)


class _Gathered:
    """Collects the texts, the tool requests and the tool results of one message, part by part."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.requests: list[ToolRequest] = []
        self.results: list[ToolResult] = []
        self.is_known, self.has_empty_text = False, False
        """Whether the message has a field that this module reads, even if it is empty; whether it has an empty text."""

    def add(self, part: Any) -> None:
        """Read one part of the message's content: add its text, tool request or tool result; ignore reasoning."""
        if not isinstance(part, dict):
            self.add_text(as_text(part))
            return
        kind = _kind(part)
        wrapped = next((key for key in _WRAPPED if isinstance(part.get(key), dict)), None)
        if kind in _SILENT_PARTS:
            # Also an approval, which repeats the request that a person approves or rejects.
            self.is_known = True
            return
        if wrapped is not None:
            kind, part = _WRAPPED[wrapped], part[wrapped]
        if kind in _REQUESTS:
            self.add_request(part)
        elif kind in _RESULT_PARTS or (kind == "retry_prompt" and part.get("tool_name")):
            self.add_result(part, is_error=kind in {"retry_prompt", "tool_error"})
        elif "toolCallId" in part and "state" in part:
            self.add_shown_call(part)
        elif kind in _TEXT_PARTS and ("text" in part or "content" in part):
            self.is_known = True
            self.add_text(as_text(part.get("text") if part.get("text") is not None else part.get("content")))
        elif (medium := medium_of(part, kind)) is not None:
            self.add_text(f"[{medium}]")
        else:
            self.add_text(as_text(part.get("content", part)))

    def add_text(self, text: str | None) -> None:
        """Add a text that the author of the message wrote; ignore an empty text."""
        if text:
            self.texts.append(clean_text(text))
        self.has_empty_text = self.has_empty_text or text == ""

    def add_shown_call(self, part: dict[str, Any]) -> None:
        """Add the request and the result (if any) of a tool call from `part`, a part in the Vercel AI SDK's format."""
        kind = part.get("type")
        named = {"toolName": kind.removeprefix("tool-"), **part} if isinstance(kind, str) else part
        self.add_request(named)
        if part["state"] in ("output-available", "output-error"):
            self.add_result(named, is_error=part["state"] == "output-error")

    def add_request(self, part: dict[str, Any]) -> None:
        """Add the tool request in `part`; if it names no tool, add `part` as text."""
        inner = part.get("function") if isinstance(part.get("function"), dict) else part
        assert isinstance(inner, dict)
        name = _text_of(inner, _NAMES, MAX_TOOL_NAME_CHARS)
        if name is None:
            self.add_text(as_text(part))
            return
        arguments = next((inner[key] for key in _ARGUMENTS if inner.get(key) is not None), None)
        self.requests.append(ToolRequest(_text_of(part, _CALL_IDS, MAX_ID_CHARS), name, clean_arguments(arguments)))

    def add_result(self, part: dict[str, Any], *, is_error: bool = False) -> None:
        """Add the tool result in `part`. If `is_error` is true, it counts as an error, whatever `part` states."""
        content = next((part[key] for key in _CONTENTS if part.get(key) is not None), None)
        if isinstance(content, dict) and "value" in content and isinstance(content.get("type"), str):
            # The Vercel AI SDK: the value has a type of its own, such as `error-text`.
            is_error = is_error or content["type"].startswith(("error", "execution-denied"))
            content = content["value"]
        flagged = part.get("is_error") is True or part.get("isError") is True or part.get("status") == "error"
        if isinstance(content, dict) and content.get("isError") is True:
            flagged = True
        self.results.append(
            ToolResult(
                _text_of(part, _RESULT_IDS, MAX_ID_CHARS),
                _text_of(part, _NAMES, MAX_TOOL_NAME_CHARS),
                _clean(content_text(content)),
                is_error or flagged,
            )
        )


def _gather(message: dict[str, Any], role: str, gathered: _Gathered) -> None:
    """Add the texts, tool requests and tool results of `message` to `gathered`. `role` is the role of the message."""
    parts, content = message.get("parts") or message.get("blocks"), message.get("content")
    gathered.is_known = [] in (message.get("parts"), message.get("blocks"), content) or _is_bare(message)
    if role == "tool" and not isinstance(parts, list) and not _has_results(content) and content is not None:
        gathered.add_result({**message, "content": content})
    else:
        for part in parts if isinstance(parts, list) and parts else content if isinstance(content, list) else ():
            gathered.add(part)
        if isinstance(content, str) and not (isinstance(parts, list) and parts):
            gathered.is_known = True
            gathered.add_text(content)
        elif isinstance(content, dict):
            # A message within a message, or a part without a list.
            for part in content["parts"] if isinstance(content.get("parts"), list) else [content]:
                gathered.add(part)
    calls = message.get("tool_calls") or message.get("toolCalls")
    if isinstance(calls, list):
        # LangChain repeats calls that are parts of the content.
        known = {request.call_id for request in gathered.requests} - {None}
        for call in calls:
            if isinstance(call, dict) and _text_of(call, _CALL_IDS, MAX_ID_CHARS) not in known:
                gathered.add_request(call)


def _is_bare(message: dict[str, Any]) -> bool:
    """Return whether a message is an answer without content: it has only a role, a finish reason, or both.

    Such a message is sent, for example, if the requested tool calls are reported in other spans.
    """
    return bool(message) and message.keys() <= _HEAD and message.get("role", "assistant") == "assistant"


def _has_results(content: Any) -> bool:
    return isinstance(content, list) and any(
        isinstance(part, dict) and (_kind(part) in _RESULT_PARTS or not _WRAPPED.keys().isdisjoint(part))
        for part in content
    )


def _unwrapped(given: dict[str, Any]) -> tuple[dict[str, Any], str]:
    """Return `(message, role)` of the innermost message in `given`; the role is empty if not known.

    Some formats wrap a message in an object, as its field `message`, `data` or `kwargs`.
    """
    message, role = given, ""
    for key in ("message", "data", "kwargs"):
        inner = message.get(key)
        if isinstance(inner, dict):
            role = role or _role(message)
            message = inner
    return message, _role(message) or role


def _role(message: dict[str, Any]) -> str:
    role = message.get("role")
    if isinstance(role, dict):
        role = role.get("value")
    if not isinstance(role, str) or not role:
        names = (message.get("type"), _last(message.get("id")))
        role = next((name for name in names if isinstance(name, str) and (name in _ROLES or name in _PLAIN)), "")
    if not role and message.get("kind") in ("request", "response"):
        role = message["kind"]
    return _ROLES.get(role, clean_text(role))


_PLAIN: Final = ("system", "user", "assistant", "tool")


def _last(value: Any) -> Any:
    return value[-1] if isinstance(value, list) and value and isinstance(value[-1], str) else None


def _kind(part: dict[str, Any]) -> str:
    kind = part.get("type") or part.get("part_kind") or part.get("block_type") or ""
    called = part["function"] if isinstance(part.get("function"), dict) else part
    # A function without arguments is the definition of a tool.
    if ("tool_kwargs" in part and not kind) or (kind == "function" and "arguments" in called):
        return "tool_call"
    return _WRAPPED.get(kind) or kind.replace("-", "_") if isinstance(kind, str) else "?"


def read_result(value: Any) -> ToolResult:
    """Return the result of a tool call, read from `value`: the attribute with the result, on the span of the tool."""
    given = value
    if isinstance(value, str):
        written = _WRITTEN_MESSAGE.match(value[:MAX_WRITTEN_CHARS]) if value.startswith("content=") else None
        if written is not None:
            found = re.search(r"tool_call_id='([^']{1,500})'", written["rest"])
            content = read_printed(written["content"])
            text = content if isinstance(content, str) else written["content"][1:-1]
            return ToolResult(found and found[1], None, _clean(text), "status='error'" in written["rest"])
        value = parsed(value) if value.startswith(("{", '"')) else None
        if isinstance(value, str):
            # A text in quotation marks: an instrumentation has encoded the result twice.
            return ToolResult(None, None, _clean(value), is_error=False) if value[:1] == '"' else read_result(value)
    if not isinstance(value, dict):
        return ToolResult(None, None, _clean(content_text(given)), is_error=False)
    if "raw_output" in value and isinstance(value.get("is_error"), bool):
        # LlamaIndex reports the result together with the input, and also as text blocks.
        return ToolResult(None, None, _clean(content_text(value["raw_output"])), value["is_error"])
    # LangChain.js has the message in a field of its own.
    message, role = _unwrapped(value["output"] if isinstance(value.get("output"), dict) else value)
    if role == "tool" and message.get("content") is not None:
        gathered = _Gathered()
        gathered.add_result({**message, "id": None})
        return gathered.results[0]
    # AgentScope reports a state beside the content.
    state = value.get("state") if isinstance(value.get("content"), list) else None
    is_error = value.get("isError") is True or value.get("is_error") is True or state in ("error", "denied")
    return ToolResult(None, None, content_text(value["content"] if isinstance(state, str) else given), is_error)


MAX_WRITTEN_CHARS: Final = 100_000
_WRITTEN_MESSAGE: Final = re.compile(
    r"""content=(?P<content>'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")(?P<rest> (?:name|tool_call_id|id)=.*)""", re.DOTALL
)
"""A message of LangChain as Python prints it."""


def _text_of(fields: dict[str, Any], keys: Iterable[str], limit: int) -> str | None:
    for key in keys:
        value = fields.get(key)
        if value and isinstance(value, str):
            return clean_text(value[:limit])
    return None


def _clean(text: str | None) -> str | None:
    return clean_text(text) if text else None

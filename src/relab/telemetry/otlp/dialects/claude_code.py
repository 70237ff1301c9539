"""The dialect of Claude Code: `span.type` states the kind of a span.

Texts are in the log events of a span, if the user enables them. A tool call has three spans: the call, the wait for
permission (`tool.blocked_on_user`) and the execution. The last two are joined with the call (`collapse.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Final

from relab.telemetry.otlp import vocabulary as v
from relab.telemetry.otlp.dialects.dialect import Dialect, Values, add, text_of
from relab.telemetry.otlp.roles import Role
from relab.telemetry.otlp.spans import Attributes, Span

_TYPE: Final = "span.type"
_PREFIX: Final = "claude_code."
_REDACTED: Final = "<REDACTED>"
"""The text that Claude Code exports in place of a text that the user does not want to export."""
_ARGUMENTS: Final = ("file_path", "full_command", "skill_name", "subagent_type")
_RESULTS: Final = ("output", "content")


def _translate(span: Span, values: Values) -> None:
    translate = _TRANSLATIONS.get(str(span.attributes.get(_TYPE)))
    if translate is not None and span.name.startswith(_PREFIX):
        translate(span, values)


def _translate_interaction(span: Span, values: Values) -> None:
    values[v.ROLE] = Role.AGENT
    add(values, v.AGENT_NAME, "claude-code")
    events = sorted(span.events, key=lambda event: event.time_us)
    prompts = [event.attributes.get("prompt") for event in events if event.name == "claude_code.user_prompt"]
    asked = [text for text in (span.attributes.get("user_prompt"), *prompts) if _is_shown(text)]
    taken: list[dict[str, Any]] = [{"role": "user", "content": asked[0]}] if asked else []
    given: list[dict[str, Any]] = []
    for event in events:
        if event.name == "claude_code.tool_result":
            taken.append(_request(event.attributes))
        elif event.name == "claude_code.assistant_response" and _is_shown(event.attributes.get("response")):
            given = [{"role": "assistant", "content": event.attributes["response"]}]
    add(values, v.INPUT_MESSAGES, taken or None)
    add(values, v.OUTPUT_MESSAGES, given or None)


def _is_shown(text: Any) -> bool:
    return isinstance(text, str) and text not in ("", _REDACTED)


def _request(attributes: Attributes) -> dict[str, Any]:
    """Return the tool request that belongs to a tool result, as a message of the assistant.

    `attributes` are those of the log event that reports the result.
    """
    call = {"name": attributes.get("tool_name"), "arguments": attributes.get("tool_input")}
    return {"role": "assistant", "tool_calls": [{"id": attributes.get("tool_use_id"), "function": call}]}


def _translate_model_call(span: Span, values: Values) -> None:
    attributes = span.attributes
    values[v.ROLE] = Role.LLM
    read, written = attributes.get("cache_read_tokens"), attributes.get("cache_creation_tokens")
    counts = [count for count in (attributes.get("input_tokens"), read, written) if isinstance(count, int)]
    # Anthropic's count of the input leaves out the tokens of the cache.
    add(values, v.INPUT_TOKENS, sum(counts) if counts else None)
    add(values, v.OUTPUT_TOKENS, attributes.get("output_tokens"))
    add(values, v.CACHED_TOKENS, read)
    add(values, v.CACHE_WRITE_TOKENS, written)
    add(values, v.STATUS_CODE, attributes.get("status_code"))
    attempts = attributes.get("attempt")
    if isinstance(attempts, int) and attempts > 1:
        add(values, v.RESEND_COUNT, attempts - 1)


def _translate_tool_call(span: Span, values: Values) -> None:
    attributes = span.attributes
    values[v.ROLE] = Role.TOOL
    add(values, v.TOOL_NAME, text_of(attributes, "tool_name"))
    arguments = {name: attributes[name] for name in _ARGUMENTS if attributes.get(name)}
    add(values, v.TOOL_ARGUMENTS, arguments or None)
    for event in span.events:
        if event.name == "tool.output":
            add(values, v.TOOL_RESULT, text_of(event.attributes, *_RESULTS))


def _translate_permission(span: Span, values: Values) -> None:
    if span.attributes.get("decision") == "reject":
        _translate_execution(span, values)
        values[v.ERROR_TYPE] = "PermissionDenied"
        values[v.ERROR_MESSAGE] = "The permission to run the tool was denied."


def _translate_execution(_span: Span, values: Values) -> None:
    values[v.ROLE] = Role.TOOL
    values[v.IS_PLUMBING] = True


_TRANSLATIONS: Final[Mapping[str, Callable[[Span, Values], None]]] = MappingProxyType(
    {
        "interaction": _translate_interaction,
        "llm_request": _translate_model_call,
        "tool": _translate_tool_call,
        "tool.blocked_on_user": _translate_permission,
        "tool.execution": _translate_execution,
    }
)

CLAUDE_CODE = Dialect(name="Claude Code", signs=frozenset((_TYPE,)), translate=_translate)

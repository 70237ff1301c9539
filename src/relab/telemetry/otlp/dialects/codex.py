"""The dialect of OpenAI's Codex CLI. Codex exports spans of its own functions; few of them describe the agent.

The texts (prompts, arguments and results) are in log events. The spans have copies of these events without the texts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import Final

from relab.telemetry.otlp import vocabulary as v
from relab.telemetry.otlp.dialects.dialect import Dialect, Values, add, text_of
from relab.telemetry.otlp.roles import Role
from relab.telemetry.otlp.spans import Attributes, Span

_TURN_TOKENS: Final = "codex.turn.token_usage.total_tokens"
_TIMES: Final = "busy_ns"
"""The attribute that every span of a program in Rust with the crate `tracing-opentelemetry` has."""


def _translate(span: Span, values: Values) -> None:
    translate = _TRANSLATIONS.get(span.name)
    if translate is not None:
        translate(span, values)


def _translate_turn(span: Span, values: Values) -> None:
    if _TURN_TOKENS in span.attributes:
        values[v.ROLE] = Role.AGENT
        add(values, v.AGENT_NAME, "codex")
        add(values, v.REQUEST_MODEL, text_of(span.attributes, "model"))


def _translate_prompt(span: Span, values: Values) -> None:
    for attributes in _events(span, "codex.user_prompt"):
        values[v.ROLE] = Role.CHAIN
        values[v.IS_PLUMBING] = True
        add(values, v.INPUT, text_of(attributes, "prompt"))
        add(values, v.CONVERSATION_ID, text_of(attributes, "conversation.id"))


def _translate_model_call(span: Span, values: Values) -> None:
    values[v.ROLE] = Role.LLM
    add(values, v.REQUEST_MODEL, text_of(span.attributes, "model"))


def _translate_usage(span: Span, values: Values) -> None:
    if v.INPUT_TOKENS in span.attributes:
        values[v.ROLE] = Role.LLM


def _translate_tool_call(span: Span, values: Values) -> None:
    for attributes in _events(span, "codex.tool_result"):
        values[v.ROLE] = Role.TOOL
        add(values, v.TOOL_NAME, text_of(attributes, "tool_name"))
        add(values, v.TOOL_CALL_ID, text_of(attributes, "call_id"))
        add(values, v.TOOL_ARGUMENTS, text_of(attributes, "arguments"))
        add(values, v.TOOL_RESULT, text_of(attributes, "output"))
        if attributes.get("success") in ("false", False):
            add(values, v.ERROR_TYPE, "tool_error")
            add(values, v.ERROR_MESSAGE, text_of(attributes, "output"))


def _events(span: Span, name: str) -> Iterator[Attributes]:
    return (event.attributes for event in span.events if name in (event.name, event.attributes.get("event.name")))


_TRANSLATIONS: Final[Mapping[str, Callable[[Span, Values], None]]] = MappingProxyType(
    {
        "session_task.turn": _translate_turn,
        "run_hooks_and_record_inputs": _translate_prompt,
        "try_run_sampling_request": _translate_model_call,
        "handle_responses": _translate_usage,
        "dispatch_tool_call_with_state": _translate_tool_call,
    }
)

CODEX = Dialect(name="Codex CLI", signs=frozenset((_TIMES, _TURN_TOKENS)), translate=_translate)

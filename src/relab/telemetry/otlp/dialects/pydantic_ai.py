"""The dialect of pydantic-ai and Logfire: their attributes in addition to OpenTelemetry's GenAI names."""

from __future__ import annotations

from typing import Any, Final

from relab.telemetry.otlp import vocabulary as v
from relab.telemetry.otlp.dialects.dialect import Dialect, Values, add, text_of
from relab.telemetry.otlp.messages import parsed, read_messages
from relab.telemetry.otlp.roles import Role
from relab.telemetry.otlp.spans import Span

_MESSAGES: Final = ("pydantic_ai.all_messages", "all_messages_events")
_RESULT: Final = "final_result"
_DEFERRED: Final = frozenset(("calls", "approvals"))
"""The fields of the object that a run has in place of an answer if it waits for approvals or results of tools."""
_CALLS_FIRST: Final = '{"calls":'
_EVENTS: Final = "events"
"""The attribute of a model call with GenAI events as JSON: one for each message, the answer as `gen_ai.choice`."""

_CHOICE: Final = "gen_ai.choice"
_CALLS: Final = ("chat", "text_completion")
_DETAILS: Final = "gen_ai.usage.details."


def _translate(span: Span, values: Values) -> None:
    attributes = span.attributes
    if "agent_name" in attributes and "gen_ai.tool.name" not in attributes:
        values.setdefault(v.ROLE, Role.AGENT)
    if span.name == "running tools" or (span.name.startswith("running ") and span.name.endswith(" tools")):
        values[v.ROLE] = Role.CHAIN
        values[v.IS_PLUMBING] = True
    if attributes.get("logfire.span_type") == "log" and values.get(v.OPERATION) in _CALLS:
        values[v.ENDS_STREAM] = True
    messages = text_of(attributes, *_MESSAGES)
    if messages is not None and read_messages(messages):
        add(values, v.INPUT_MESSAGES, messages)
    elif messages == "[]":
        # pydantic-ai adds the request to the messages only together with the model's answer.
        values[v.HAS_NO_MESSAGES] = True
    result = text_of(attributes, _RESULT)
    found = parsed(result) if result is not None and result.startswith(_CALLS_FIRST) else None
    if isinstance(found, dict) and found.keys() >= _DEFERRED:
        values.pop(v.OUTPUT, None)
    elif result is not None and result.startswith(("{", "[")):
        # A structured answer is the answer itself, whatever its fields.
        add(values, v.OUTPUT_MESSAGES, [{"role": "assistant", "content": result}])
    events = text_of(attributes, _EVENTS)
    if events is not None:
        _add_events(parsed(events), values)


def _add_events(events: Any, values: Values) -> None:
    if not isinstance(events, list) or not all(isinstance(event, dict) and "event.name" in event for event in events):
        return
    taken = [event for event in events if event["event.name"] != _CHOICE]
    given = [event["message"] for event in events if event["event.name"] == _CHOICE and "message" in event]
    if len(taken) == len(events):
        # Logfire reports the answer of OpenAI's responses without a choice, as the last messages of the assistant.
        last = next((place for place in range(len(taken), 0, -1) if taken[place - 1].get("role") != "assistant"), 0)
        taken, given = taken[:last], taken[last:]
    add(values, v.INPUT_MESSAGES, taken or None)
    add(values, v.OUTPUT_MESSAGES, given or None)


PYDANTIC_AI = Dialect(
    name="pydantic-ai",
    signs=frozenset(
        (
            *_MESSAGES,
            _EVENTS,
            "tool_arguments",
            "tool_response",
            "agent_name",
            _RESULT,
            "logfire.msg",
            *(
                f"{_DETAILS}{name}"
                for name in ("cache_read_tokens", "cached_tokens", "cache_write_tokens", "reasoning_tokens")
            ),
        )
    ),
    names=(
        ("agent_name", v.AGENT_NAME),
        ("model_name", v.REQUEST_MODEL),
        ("tool_arguments", v.TOOL_ARGUMENTS),
        ("tool_response", v.TOOL_RESULT),
        (_RESULT, v.OUTPUT),
        (f"{_DETAILS}cache_read_tokens", v.CACHED_TOKENS),
        (f"{_DETAILS}cached_tokens", v.CACHED_TOKENS),
        (f"{_DETAILS}cache_write_tokens", v.CACHE_WRITE_TOKENS),
        (f"{_DETAILS}reasoning_tokens", v.REASONING_TOKENS),
    ),
    translate=_translate,
)

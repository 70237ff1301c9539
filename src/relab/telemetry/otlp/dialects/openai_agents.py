"""The dialect of OpenTelemetry's own instrumentation of the OpenAI Agents SDK.

It translates only the facts that this instrumentation reports in another way than OpenTelemetry's conventions say.
"""

from __future__ import annotations

from typing import Any, Final

from relab.telemetry.otlp import vocabulary as v
from relab.telemetry.otlp.dialects.dialect import Dialect, Values
from relab.telemetry.otlp.messages import parsed
from relab.telemetry.otlp.printed import read_printed
from relab.telemetry.otlp.roles import Role
from relab.telemetry.otlp.spans import STATUS_ERROR, Span

_DESCRIPTION: Final = "gen_ai.agent.description"
_DEFAULTS: Final = ("OpenAI Agents instrumentation", "OpenAI Agent")
"""The description and the name that spans of models and tools have where those of their agent are expected."""
_UNKNOWN: Final = "unknown"
"""The operation of spans that the instrumentation does not know, such as a turn of an agent."""
_PRINTED_CALL: Final = "ResponseFunctionToolCall("


def _translate(span: Span, values: Values) -> None:
    attributes = span.attributes
    if attributes.get(_DESCRIPTION) == _DEFAULTS[0] and values.get(v.AGENT_NAME) == _DEFAULTS[1]:
        del values[v.AGENT_NAME]
    if attributes.get(v.OPERATION) == _UNKNOWN and span.status == STATUS_ERROR:
        # A turn of the agent: a rejected answer is the error of this span alone.
        values[v.ROLE] = Role.CHAIN
    given = attributes.get(v.OUTPUT_MESSAGES)
    if isinstance(given, str) and _PRINTED_CALL in given:
        messages = parsed(given)
        if isinstance(messages, list):
            values[v.OUTPUT_MESSAGES] = [_with_requests(message) for message in messages]


def _with_requests(message: Any) -> Any:
    """Return a message in which each tool request that the SDK printed as text (`repr`) is a structured part."""
    parts = message.get("parts") if isinstance(message, dict) else None
    return {**message, "parts": [_request(part) or part for part in parts]} if isinstance(parts, list) else message


def _request(part: Any) -> dict[str, Any] | None:
    text = part.get("content") if isinstance(part, dict) else None
    call = read_printed(text) if isinstance(text, str) and text.startswith(_PRINTED_CALL) else None
    if not isinstance(call, dict):
        return None
    return {
        "type": "tool_call",
        "id": call.get("call_id"),
        "name": call.get("name"),
        "arguments": call.get("arguments"),
    }


OPENAI_AGENTS = Dialect(name="OpenAI Agents SDK, OpenTelemetry", signs=frozenset((_DESCRIPTION,)), translate=_translate)

"""The dialect of Logfire's instrumentation of the OpenAI Agents SDK.

The name of a span is a template, such as `Function: {name}`, so the names of agents and tools are read from attributes.
The spans of model calls need no translation, because they use OpenTelemetry's attribute names.
"""

from __future__ import annotations

from typing import Final

from relab.telemetry.otlp import vocabulary as v
from relab.telemetry.otlp.dialects.dialect import Dialect, Values, add, text_of
from relab.telemetry.otlp.messages import parsed
from relab.telemetry.otlp.roles import Role
from relab.telemetry.otlp.spans import STATUS_ERROR, Span
from relab.telemetry.otlp.text import as_text

_TEMPLATE: Final = "logfire.msg_template"
_KIND: Final = "sdk_span_type"
_TRACE: Final = "agent_trace_id"
_TARGET: Final = "to_agent"
_FUNCTION: Final = "Function: {name}"


def _translate(span: Span, values: Values) -> None:
    attributes = span.attributes
    name = attributes.get("name")
    if attributes.get(_TEMPLATE) == _FUNCTION:
        values[v.ROLE] = Role.TOOL
        add(values, v.TOOL_NAME, name)
        add(values, v.TOOL_ARGUMENTS, attributes.get("input"))
        # The text `null` stands for a call without a result.
        result = attributes.get("output")
        add(values, v.TOOL_RESULT, None if result == "null" else result)
    elif _TRACE in attributes:
        values[v.ROLE] = Role.CHAIN
        add(values, v.WORKFLOW_NAME, name)
        group = attributes.get("group_id")
        add(values, v.CONVERSATION_ID, None if group == "null" else group)
    elif _KIND in attributes:
        # A turn of an agent, or the whole task, around the agents: an error is the only fact of its own.
        values[v.ROLE] = Role.CHAIN if span.status == STATUS_ERROR else Role.OTHER
    elif _TARGET in attributes and "from_agent" in attributes:
        values[v.ROLE] = Role.HANDOFF
        add(values, v.HANDOVER_TO, attributes.get(_TARGET))
    elif "handoffs" in attributes and "tools" in attributes:
        values[v.ROLE] = Role.AGENT
        add(values, v.AGENT_NAME, name)
    error = parsed(text_of(attributes, "error") or "") if span.status == STATUS_ERROR else None
    if isinstance(error, dict) and error.get("message"):
        told = [as_text(error[field]) or "" for field in ("message", "data") if error.get(field)]
        add(values, v.ERROR_MESSAGE, ": ".join(told))


LOGFIRE: Final = Dialect(name="Logfire, OpenAI Agents SDK", signs=frozenset((_TEMPLATE,)), translate=_translate)

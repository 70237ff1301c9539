"""Attribute names of hand-written instrumentation that follow no convention, and older names of general conventions."""

from __future__ import annotations

from relab.telemetry.otlp import vocabulary as v
from relab.telemetry.otlp.dialects.dialect import Dialect, Values, add
from relab.telemetry.otlp.spans import Span

_NAMES = (
    ("session.id", v.CONVERSATION_ID),
    ("enduser.id", v.USER_ID),
    ("tool.call.id", v.TOOL_CALL_ID),
    ("tool.arguments", v.TOOL_ARGUMENTS),
    ("tool.args", v.TOOL_ARGUMENTS),
    ("tool.input", v.TOOL_ARGUMENTS),
    ("tool.result", v.TOOL_RESULT),
    ("tool.output", v.TOOL_RESULT),
    ("agent.input", v.INPUT),
    ("agent.output", v.OUTPUT),
    ("http.status_code", v.STATUS_CODE),
    ("operation.cost", v.COST_USD),
)


def _translate(span: Span, values: Values) -> None:
    # If nothing else shows the role of a span, the name of an agent only shows to which agent the span belongs.
    if v.OPERATION in values or v.ROLE in values:
        add(values, v.AGENT_NAME, span.attributes.get("agent.name"))


GENERIC = Dialect(
    name="without a convention",
    signs=frozenset((*(name for name, _ in _NAMES), "agent.name")),
    names=_NAMES,
    translate=_translate,
)

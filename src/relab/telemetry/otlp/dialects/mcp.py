"""OpenTelemetry's conventions for the Model Context Protocol (MCP): spans of its clients and servers.

The client and the server each report a tool call as a span. On the client's span, the official SDK for Python sets no
GenAI attributes, only the method.
"""

from __future__ import annotations

from typing import Final

from relab.telemetry.otlp import vocabulary as v
from relab.telemetry.otlp.dialects.dialect import Dialect, Values, add
from relab.telemetry.otlp.roles import Role
from relab.telemetry.otlp.spans import Span

_CALL: Final = "tools/call"


def _translate(span: Span, values: Values) -> None:
    if values.get(v.MCP_METHOD) != _CALL:
        return
    values.setdefault(v.ROLE, Role.TOOL)
    _, _, target = span.name.partition(f"{_CALL} ")
    add(values, v.TOOL_NAME, target or None)
    # A framework that exports spans of tool calls has its own span for the same call.
    values[v.IS_PLUMBING] = True


MCP = Dialect(name="Model Context Protocol", signs=frozenset((v.MCP_METHOD,)), translate=_translate)

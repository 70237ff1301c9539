"""OpenTelemetry's conventions for the Model Context Protocol (MCP): spans of its clients and servers.

Client and server report one call of a tool in a span each. The official SDK for Python writes no names of GenAI
attributes on the client's span, only its method.
"""

from __future__ import annotations

from typing import Final

from relab.telemetry.otlp import vocabulary as v
from relab.telemetry.otlp.dialects.dialect import Dialect, Values, add
from relab.telemetry.otlp.roles import Role
from relab.telemetry.otlp.spans import Span

_METHOD: Final = "mcp.method.name"
_CALL: Final = "tools/call"


def _translate(span: Span, values: Values) -> None:
    if values.get(_METHOD) != _CALL:
        return
    values.setdefault(v.ROLE, Role.TOOL)
    _, _, target = span.name.partition(f"{_CALL} ")
    add(values, v.TOOL_NAME, target or None)
    # The framework has a span for the same call, if it has spans for calls of tools.
    values[v.IS_PLUMBING] = True


MCP = Dialect(name="Model Context Protocol", signs=frozenset((_METHOD,)), translate=_translate)

"""The dialect of Laminar's SDKs: OpenTelemetry's GenAI names for models, and names of its own for functions."""

from __future__ import annotations

from typing import Final

from relab.telemetry.otlp import vocabulary as v
from relab.telemetry.otlp.dialects.dialect import Dialect, Values, add
from relab.telemetry.otlp.messages import parsed
from relab.telemetry.otlp.roles import Role
from relab.telemetry.otlp.spans import Span

_TYPE: Final = "lmnr.span.type"
_INPUT: Final = "lmnr.span.input"
_OUTPUT: Final = "lmnr.span.output"
_PROPERTIES: Final = "lmnr.association.properties."
_ROLES: Final = {
    "LLM": Role.LLM,
    "CACHED": Role.LLM,
    "TOOL": Role.TOOL,
    "DEFAULT": Role.CHAIN,
    "EVALUATOR": Role.EVALUATOR,
    "EXECUTOR": Role.CHAIN,
}


def _translate(span: Span, values: Values) -> None:
    attributes = span.attributes
    given, result = attributes.get(_INPUT), attributes.get(_OUTPUT)
    role = values.get(v.ROLE)
    if role is Role.TOOL:
        add(values, v.TOOL_NAME, span.name or None)
        add(values, v.TOOL_ARGUMENTS, given)
        add(values, v.TOOL_RESULT, _plain(result))
    elif role is Role.CHAIN:
        # Without this name, the agent would be named after the service, by default the file of the program.
        add(values, v.WORKFLOW_NAME, span.name or None)
        add(values, v.INPUT, given)
        add(values, v.OUTPUT, _plain(result))


def _plain(value: object) -> object:
    """Decode a result that is a JSON string; return any other result unchanged."""
    found = parsed(value) if isinstance(value, str) and value.startswith('"') else None
    return found if isinstance(found, str) else value


LAMINAR = Dialect(
    name="Laminar",
    signs=frozenset((_TYPE,)),
    names=(
        (f"{_PROPERTIES}session_id", v.CONVERSATION_ID),
        (f"{_PROPERTIES}user_id", v.USER_ID),
        # OpenHands names the request here; its spans of tools are named after the class of the tool's arguments.
        (f"{_PROPERTIES}metadata.tool_call_id", v.TOOL_CALL_ID),
    ),
    roles={_TYPE: _ROLES},
    translate=_translate,
)

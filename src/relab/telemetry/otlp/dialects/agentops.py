"""The dialect of AgentOps' SDK: its own attributes of decorated functions, and a span for each requested tool call."""

from __future__ import annotations

from typing import Final

from relab.telemetry.otlp import vocabulary as v
from relab.telemetry.otlp.dialects.dialect import Dialect, Values, add, text_of
from relab.telemetry.otlp.roles import Role
from relab.telemetry.otlp.spans import Span

_KIND: Final = "agentops.span.kind"
_REQUESTED: Final = "tool.call.type"
_ROLES: Final = {
    "session": Role.CHAIN,
    "workflow": Role.CHAIN,
    "operation": Role.CHAIN,
    "task": Role.CHAIN,
    "chain": Role.CHAIN,
    "agent": Role.AGENT,
    "tool": Role.TOOL,
    "llm": Role.LLM,
    "guardrail": Role.GUARDRAIL,
}


def _translate(span: Span, values: Values) -> None:
    attributes = span.attributes
    if _REQUESTED in attributes:
        _read_request(span, values)
        return
    kind, name = text_of(attributes, _KIND), text_of(attributes, "operation.name")
    role = values.get(v.ROLE)
    # The attribute's name contains the kind of the function, or `entity` for kinds without a name of their own.
    given = text_of(attributes, f"agentops.{kind}.input", "agentops.entity.input")
    result = text_of(attributes, f"agentops.{kind}.output", "agentops.entity.output")
    if role is Role.TOOL:
        add(values, v.TOOL_NAME, name or span.name)
        add(values, v.TOOL_ARGUMENTS, given)
        add(values, v.TOOL_RESULT, result)
        return
    add(values, v.INPUT, given)
    add(values, v.OUTPUT, result)
    if role is Role.AGENT:
        add(values, v.AGENT_NAME, name)
    elif role is Role.CHAIN:
        # Without this name, the agent would be named after the service, which is `agentops` by default.
        add(values, v.WORKFLOW_NAME, name)


def _read_request(span: Span, values: Values) -> None:
    """Convert a span that reports a requested tool call, not its execution, into an output message with this request.

    AgentOps sends such spans inside the span of the model call; their role becomes `OTHER`.
    """
    attributes = span.attributes
    name = text_of(attributes, "tool.name")
    if name is None or not span.name.startswith("tool_call."):
        return
    for field in (v.TOOL_NAME, v.TOOL_ARGUMENTS, v.TOOL_CALL_ID):
        values.pop(field, None)
    values[v.ROLE] = Role.OTHER
    function = {"name": name, "arguments": attributes.get("tool.parameters")}
    call = {"id": attributes.get("tool.call.id"), "type": "function", "function": function}
    add(values, v.OUTPUT_MESSAGES, [{"role": "assistant", "tool_calls": [call]}])


AGENTOPS = Dialect(name="AgentOps", signs=frozenset((_KIND, _REQUESTED)), roles={_KIND: _ROLES}, translate=_translate)

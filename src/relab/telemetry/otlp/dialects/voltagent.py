"""The dialect of VoltAgent: `span.type` states the kind of a span.

`entity.type` states whether the span belongs to an agent or to a workflow.
"""

from __future__ import annotations

from typing import Any, Final

from relab.telemetry.otlp import vocabulary as v
from relab.telemetry.otlp.dialects.dialect import Dialect, Values, add, text_of
from relab.telemetry.otlp.messages import parsed
from relab.telemetry.otlp.roles import Role
from relab.telemetry.otlp.spans import Span

_ENTITY: Final = "entity.type"
_TYPE: Final = "span.type"
_ROLES: Final = {
    "agent": Role.AGENT,
    "llm": Role.LLM,
    "tool": Role.TOOL,
    "retriever": Role.RETRIEVER,
    "embedding": Role.EMBEDDING,
    "guardrail": Role.GUARDRAIL,
    "workflow": Role.CHAIN,
    "workflow-step": Role.CHAIN,
}


def _translate(span: Span, values: Values) -> None:
    attributes = span.attributes
    add(values, v.CONVERSATION_ID, text_of(attributes, "conversation.id"))
    # The span of an agent or a workflow itself has no type.
    kind = text_of(attributes, _TYPE, _ENTITY) or ""
    role = _ROLES.get(kind)
    given, result = attributes.get("input"), attributes.get("output")
    if kind == "memory" and attributes.get("memory.operation") == "write":
        # If a call was rejected before its tool ran, it is reported only here.
        add(values, v.INPUT_MESSAGES, _saved_message(given))
    if role is None or v.OPERATION in values:
        return
    values[v.ROLE] = role
    if role in (Role.LLM, Role.TOOL) and attributes.get(_ENTITY) == "agent":
        # The span of the agent itself may be missing.
        add(values, v.AGENT_NAME, text_of(attributes, "subagent.name", "entity.name"))
    if role is Role.TOOL:
        add(values, v.TOOL_NAME, text_of(attributes, "tool.name") or span.name)
        add(values, v.TOOL_ARGUMENTS, given)
        add(values, v.TOOL_RESULT, result)
        return
    add(values, v.INPUT, given)
    add(values, v.OUTPUT, result)
    if role is Role.LLM:
        # One span reports all model calls of a loop, but only the tokens of the last one; the agent's span has the
        # tokens of all calls.
        add(values, v.INPUT_MESSAGES, attributes.get("llm.messages"))
        add(values, v.REQUEST_MODEL, attributes.get("llm.model"))
        add(values, v.FINISH_REASONS, attributes.get("llm.finish_reason"))
    elif role is Role.AGENT:
        add(values, v.AGENT_NAME, text_of(attributes, "subagent.name", "entity.name"))
        add(values, v.REQUEST_MODEL, attributes.get("ai.model.name"))
        add(values, v.INPUT_TOKENS, attributes.get("usage.prompt_tokens"))
        add(values, v.OUTPUT_TOKENS, attributes.get("usage.completion_tokens"))
        add(values, v.CACHED_TOKENS, attributes.get("usage.cached_tokens"))
        add(values, v.REASONING_TOKENS, attributes.get("usage.reasoning_tokens"))


def _saved_message(given: Any) -> list[Any] | None:
    """Return a list with the message that VoltAgent saved to its memory; None if the assistant did not write it.

    `given` is the input of the span that reports the writing to memory, as JSON text.
    """
    saved = parsed(given) if isinstance(given, str) and given.startswith("{") else None
    message = saved.get("message") if isinstance(saved, dict) else None
    return [message] if isinstance(message, dict) and message.get("role") == "assistant" else None


VOLTAGENT = Dialect(name="VoltAgent", signs=frozenset((_ENTITY,)), translate=_translate)

"""Determine the role of a span in an agent's run, such as a model call or a tool call.

The role is read from OpenTelemetry's GenAI operation name; or else from the role that a dialect declares; or else from
attributes such as the name of a tool or a model. If you change these rules, increase `MAPPER_VERSION`.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final

from relab.telemetry.otlp.spans import Attributes
from relab.telemetry.otlp.vocabulary import AGENT_NAME, OPERATION, REQUEST_MODEL, ROLE, TOOL_NAME

MAPPER_VERSION: Final = 23
"""Increase it when the same spans are projected to another run; late spans then rewrite runs of older versions."""


class Role(StrEnum):
    """The kind of work that a span reports in an agent's run: an agent, a model call (`llm`), a tool call, and so on.

    The field `span_kind` of a step in the timeline is the role of the step's span.
    """

    AGENT = "agent"
    CHAIN = "chain"
    LLM = "llm"
    EMBEDDING = "embedding"
    RERANKER = "reranker"
    EVALUATOR = "evaluator"
    PROMPT = "prompt"
    TOOL = "tool"
    RETRIEVER = "retriever"
    GUARDRAIL = "guardrail"
    HANDOFF = "handoff"
    """An agent passes the conversation to another agent."""
    OTHER = "other"
    """No known role in an agent's run: only the raw span is stored."""


CREATE_AGENT: Final = "create_agent"
"""The operation of spans that report the creation of an agent, which is no activity of the agent."""

_GENAI: Final = {
    "invoke_agent": Role.AGENT,
    CREATE_AGENT: Role.CHAIN,
    "invoke_workflow": Role.CHAIN,
    "plan": Role.CHAIN,
    "execute_tool": Role.TOOL,
    "chat": Role.LLM,
    "text_completion": Role.LLM,
    "generate_content": Role.LLM,
    "retrieval": Role.RETRIEVER,
    "embeddings": Role.EMBEDDING,
}

# Attributes that show the role if the instrumentation names no operation, the least reliable last.
_SIGNS: Final = (
    (TOOL_NAME, Role.TOOL),
    (REQUEST_MODEL, Role.LLM),
    (AGENT_NAME, Role.AGENT),
)

MODEL_ROLES: Final = (Role.LLM, Role.EMBEDDING, Role.RERANKER)
"""The roles whose tokens are billed; token counts of other roles repeat those of these spans."""


def role_of(attributes: Attributes) -> Role:
    """Return the role of a span in an agent's run, such as a model call, a tool call or an agent.

    `attributes` are the attributes of the span, with the names of `vocabulary.py`. Return `OTHER` if they show no role.
    """
    operation = attributes.get(OPERATION)
    if operation is not None and isinstance(operation, str):
        role = _GENAI.get(operation)
        if role is not None:
            return role
    declared = attributes.get(ROLE)
    if isinstance(declared, Role):
        return declared
    role = next((role for sign, role in _SIGNS if sign in attributes), Role.OTHER)
    # A span with another operation belongs to the agent that it names, but is not the execution of this agent.
    return Role.OTHER if role is Role.AGENT and operation else role

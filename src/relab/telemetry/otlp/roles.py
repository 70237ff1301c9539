"""Determine the role of a span in an agent's run, for each dialect.

The dialects are OpenTelemetry's GenAI conventions (`gen_ai.operation.name`; those of agent
spans are still in development, hence `MAPPER_VERSION`), OpenInference
(`openinference.span.kind`) and OpenLLMetry (`traceloop.span.kind`).
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final

from relab.telemetry.otlp.spans import Attributes

MAPPER_VERSION: Final = 2
"""Increase it when the same spans are projected to another run; late spans then rewrite runs of older versions."""


class Role(StrEnum):
    """The role of a span in an agent's run; the value is the `span_kind` of its step."""

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
    OTHER = "other"
    """No known role in an agent's run: only the raw span is stored."""


_GENAI: Final = {
    "invoke_agent": Role.AGENT,
    "create_agent": Role.CHAIN,
    "invoke_workflow": Role.CHAIN,
    "plan": Role.CHAIN,
    "execute_tool": Role.TOOL,
    "chat": Role.LLM,
    "text_completion": Role.LLM,
    "generate_content": Role.LLM,
    "retrieval": Role.RETRIEVER,
    "embeddings": Role.EMBEDDING,
}
_OPENINFERENCE: Final = {role.value.upper(): role for role in Role if role is not Role.OTHER}
_OPENLLMETRY: Final = {"workflow": Role.CHAIN, "task": Role.CHAIN, "agent": Role.AGENT, "tool": Role.TOOL}

# Attributes that show the role if the instrumentation names no operation, the least reliable last.
_SIGNS: Final = (
    ("gen_ai.tool.name", Role.TOOL),
    ("tool.name", Role.TOOL),
    ("gen_ai.request.model", Role.LLM),
    ("llm.model_name", Role.LLM),
    ("gen_ai.agent.name", Role.AGENT),
)


# Attributes of spans that OpenInference wrongly calls agents. Token counts are not used here, because some agents
# repeat the counts of their models.
_NO_AGENTS: Final = (
    ("tool.name", Role.TOOL),
    ("retrieval.documents", Role.RETRIEVER),
    ("retrieval.documents.0.document.content", Role.RETRIEVER),
)

MODEL_ROLES: Final = (Role.LLM, Role.EMBEDDING, Role.RERANKER)
"""The roles whose tokens are billed; token counts of other roles repeat those of these spans."""


def role_of(attributes: Attributes) -> Role:
    """Return the role that the attributes declare, or `OTHER` if they declare no known role."""
    for key, roles in (
        ("gen_ai.operation.name", _GENAI),
        ("openinference.span.kind", _OPENINFERENCE),
        ("traceloop.span.kind", _OPENLLMETRY),
    ):
        declared = attributes.get(key)
        if declared is not None and isinstance(declared, str):
            role = roles.get(declared)
            if role is Role.AGENT and key == "openinference.span.kind":
                # OpenInference's LangChain instrumentation calls every span with "agent" in its name an agent.
                return next((other for sign, other in _NO_AGENTS if sign in attributes), role)
            if role is not None:
                return role
    return next((role for sign, role in _SIGNS if sign in attributes), Role.OTHER)

"""The dialect of Genkit: the input and the output of each action as JSON texts."""

from __future__ import annotations

from typing import Any, Final

from relab.telemetry.otlp import vocabulary as v
from relab.telemetry.otlp.dialects.dialect import Dialect, Values, add, text_of
from relab.telemetry.otlp.messages import parsed
from relab.telemetry.otlp.roles import Role
from relab.telemetry.otlp.spans import Span

_TYPE: Final = "genkit:type"
_SUBTYPE: Final = "genkit:metadata:subtype"
_ROLES: Final = {
    # Genkit has no other name for an agent: a flow is a function that calls models, and that a program can call.
    "flow": Role.AGENT,
    "agent": Role.AGENT,
    "model": Role.LLM,
    "background-model": Role.LLM,
    "tool": Role.TOOL,
    "retriever": Role.RETRIEVER,
    "embedder": Role.EMBEDDING,
    "reranker": Role.RERANKER,
    "evaluator": Role.EVALUATOR,
    "prompt": Role.PROMPT,
    "executable-prompt": Role.PROMPT,
    "flowStep": Role.CHAIN,
    "util": Role.CHAIN,
}


def _translate(span: Span, values: Values) -> None:
    attributes = span.attributes
    kind = text_of(attributes, _SUBTYPE, _TYPE)
    role = _ROLES.get(kind or "")
    if role is None:
        return
    values.setdefault(v.ROLE, role)
    name = text_of(attributes, "genkit:name") or span.name
    given, result = (
        parsed(text_of(attributes, "genkit:input") or ""),
        parsed(text_of(attributes, "genkit:output") or ""),
    )
    add(values, v.CONVERSATION_ID, text_of(attributes, "genkit:sessionId", "genkit:metadata:sessionId"))
    if role is Role.TOOL:
        add(values, v.TOOL_NAME, name)
        add(values, v.TOOL_ARGUMENTS, given)
        add(values, v.TOOL_RESULT, result)
        return
    if role is Role.LLM and isinstance(given, dict):
        _add_model_call(name, given, result, values)
        return
    add(values, v.INPUT, given)
    add(values, v.OUTPUT, result)
    if role is Role.AGENT:
        add(values, v.AGENT_NAME, name)
    elif kind == "util":
        # `generate` calls itself once for each turn of the model.
        values[v.IS_PLUMBING] = True


def _add_model_call(name: str, given: dict[str, Any], result: Any, values: Values) -> None:
    provider, _, model = name.rpartition("/")
    add(values, v.REQUEST_MODEL, model)
    add(values, v.PROVIDER, provider or None)
    add(values, v.INPUT_MESSAGES, given.get("messages"))
    add(values, "gen_ai.tool.definitions", given.get("tools"))
    if not isinstance(result, dict):
        return
    add(values, v.OUTPUT_MESSAGES, [result["message"]] if isinstance(result.get("message"), dict) else None)
    add(values, v.FINISH_REASONS, result.get("finishReason"))
    usage = result.get("usage")
    if isinstance(usage, dict):
        add(values, v.INPUT_TOKENS, usage.get("inputTokens"))
        add(values, v.OUTPUT_TOKENS, usage.get("outputTokens"))
        add(values, v.CACHED_TOKENS, usage.get("cachedContentTokens"))
        add(values, v.REASONING_TOKENS, usage.get("thoughtsTokens"))


GENKIT = Dialect(name="Genkit", signs=frozenset((_TYPE,)), translate=_translate)

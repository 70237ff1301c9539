"""The dialect of Langfuse's SDKs: the attribute names of the spans that they export by OpenTelemetry."""

from __future__ import annotations

from typing import Any, Final

from relab.telemetry.otlp import vocabulary as v
from relab.telemetry.otlp.dialects.dialect import Dialect, Values, add, add_messages, text_of
from relab.telemetry.otlp.messages import parsed
from relab.telemetry.otlp.roles import Role
from relab.telemetry.otlp.spans import Span

_PREFIX: Final = "langfuse.observation."
_INPUT_DETAILS: Final = ("prompt_tokens_details", "input_tokens_details")
_OUTPUT_DETAILS: Final = ("completion_tokens_details", "output_tokens_details")
_ROLES: Final = {
    "generation": Role.LLM,
    "agent": Role.AGENT,
    "tool": Role.TOOL,
    "chain": Role.CHAIN,
    "span": Role.CHAIN,
    "retriever": Role.RETRIEVER,
    "embedding": Role.EMBEDDING,
    "evaluator": Role.EVALUATOR,
    "guardrail": Role.GUARDRAIL,
}


def _translate(span: Span, values: Values) -> None:
    attributes = span.attributes
    role = values.get(v.ROLE)
    given, result = attributes.get(f"{_PREFIX}input"), attributes.get(f"{_PREFIX}output")
    if role is Role.TOOL:
        add(values, v.TOOL_NAME, span.name or None)
        add(values, v.TOOL_ARGUMENTS, given)
        add(values, v.TOOL_RESULT, result)
    elif role is Role.LLM:
        add_messages(values, given, result)
    else:
        add(values, v.INPUT, given)
        add(values, v.OUTPUT, result)
    if role is Role.AGENT:
        add(values, v.AGENT_NAME, span.name or None)
    # The agent of LangChain's `create_agent` that does the span's work: the root may be late or lost.
    named = text_of(attributes, "langfuse.observation.metadata.lc_agent_name")
    add(values, v.AGENT_NAME, parsed(named) if named is not None and named.startswith('"') else named)
    usage = parsed(text_of(attributes, f"{_PREFIX}usage_details") or "")
    if isinstance(usage, dict):
        _add_usage(usage, values)
    cost = parsed(text_of(attributes, f"{_PREFIX}cost_details") or "")
    if isinstance(cost, dict):
        add(values, v.COST_USD, cost.get("total"))
    if attributes.get(f"{_PREFIX}level") == "ERROR":
        add(values, v.ERROR_TYPE, v.UNNAMED_ERROR)
        add(values, v.ERROR_MESSAGE, attributes.get(f"{_PREFIX}status_message"))


def _add_usage(usage: dict[str, Any], values: Values) -> None:
    """Add the token counts in `usage` to `values`, under the names of `vocabulary.py`."""
    given, answered = (_details(usage, kind) for kind in (_INPUT_DETAILS, _OUTPUT_DETAILS))
    cached = _first(usage, "input_cached_tokens", "input_cache_read", "cache_read_input_tokens")
    written = _first(usage, "input_cache_creation", "cache_creation_input_tokens")
    thought = _first(usage, "output_reasoning_tokens", "output_reasoning")
    add(values, v.CACHED_TOKENS, cached)
    add(values, v.CACHE_WRITE_TOKENS, written)
    add(values, v.REASONING_TOKENS, thought)
    # Langfuse's `input` has no cached tokens and its `output` no reasoning tokens; the counts in `values` include them.
    add(values, v.INPUT_TOKENS, _sum(usage.get("input"), cached, written))
    add(values, v.OUTPUT_TOKENS, _sum(usage.get("output"), thought))
    add(values, v.INPUT_TOKENS, _first(usage, "prompt_tokens", "input_tokens"))
    add(values, v.OUTPUT_TOKENS, _first(usage, "completion_tokens", "output_tokens"))
    # Langfuse's wrapper of OpenAI's client exports the usage as OpenAI reports it.
    add(values, v.CACHED_TOKENS, given.get("cached_tokens"))
    add(values, v.REASONING_TOKENS, answered.get("reasoning_tokens"))


def _details(usage: dict[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    """Return the object in `usage` under the first of `names` that is present; an empty one if none is present."""
    found = _first(usage, *names)
    return found if isinstance(found, dict) else {}


def _sum(count: Any, *parts: Any) -> Any:
    return count + sum(part for part in parts if type(part) is int) if type(count) is int else count


def _first(fields: dict[str, Any], *keys: str) -> Any:
    return next((fields[key] for key in keys if fields.get(key) is not None), None)


LANGFUSE = Dialect(
    name="Langfuse",
    signs=frozenset(
        (f"{_PREFIX}type", f"{_PREFIX}input", f"{_PREFIX}output", "langfuse.trace.name", "langfuse.session.id")
    ),
    names=(
        (f"{_PREFIX}model.name", v.REQUEST_MODEL),
        ("langfuse.session.id", v.CONVERSATION_ID),
        ("langfuse.user.id", v.USER_ID),
    ),
    roles={f"{_PREFIX}type": _ROLES},
    translate=_translate,
)

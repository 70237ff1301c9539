"""The dialect of LangSmith: the attribute names of the spans that it exports by OpenTelemetry."""

from __future__ import annotations

from typing import Any, Final

from relab.telemetry.otlp import vocabulary as v
from relab.telemetry.otlp.dialects.dialect import Dialect, Values, add, text_of
from relab.telemetry.otlp.dialects.openinference import AGENT_NODES
from relab.telemetry.otlp.messages import parsed
from relab.telemetry.otlp.roles import Role
from relab.telemetry.otlp.spans import Attributes, Span

_KIND: Final = "langsmith.span.kind"
_METADATA: Final = "langsmith.metadata."


def _translate(span: Span, values: Values) -> None:
    attributes = span.attributes
    if values.get(v.ROLE) in (Role.TOOL, Role.RETRIEVER):
        add(values, v.TOOL_NAME, text_of(attributes, "langsmith.span.name") or span.name)
        given = parsed(text_of(attributes, "gen_ai.prompt") or "")
        inner = given.get("input") if isinstance(given, dict) and given.keys() == {"input"} else None
        add(values, v.TOOL_ARGUMENTS, inner if inner is not None else attributes.get("gen_ai.prompt"))
        result = parsed(text_of(attributes, "gen_ai.completion") or "")
        inner = result.get("output") if isinstance(result, dict) and result.keys() == {"output"} else None
        # If a tool raised an exception, it has no output. This is exported as an empty object.
        given = attributes.get("gen_ai.completion") if result != {} else ""
        add(values, v.TOOL_RESULT, inner if inner is not None else given)
    elif values.get(v.ROLE) is Role.LLM:
        add(values, v.OUTPUT_MESSAGES, _generated(attributes))
    elif _is_plumbing(span):
        values[v.IS_PLUMBING] = True
    for key in ("session_id", "thread_id", "conversation_id"):
        add(values, v.CONVERSATION_ID, attributes.get(_METADATA + key))
    _add_details(attributes, values)
    add(values, v.PROVIDER, attributes.get(f"{_METADATA}ls_provider"))
    add(values, v.AGENT_NAME, attributes.get(f"{_METADATA}lc_agent_name"))
    add(values, v.REQUEST_MODEL, attributes.get(f"{_METADATA}ls_model_name"))


def _is_plumbing(span: Span) -> bool:
    """Return whether a span only encloses one call of a model or of a tool.

    Such spans are the nodes of LangChain's agent, and its middleware.
    """
    is_node = span.name in AGENT_NODES and span.attributes.get(f"{_METADATA}langgraph_node") == span.name
    return is_node or span.name.endswith((".wrap_tool_call", ".wrap_model_call"))


def _generated(attributes: Attributes) -> list[Any] | None:
    """Return the messages that a model of LangChain generated; None if the output has another shape."""
    output = parsed(text_of(attributes, "gen_ai.completion") or "")
    prompts = output.get("generations") if isinstance(output, dict) else None
    answers = (
        [answer for prompt in prompts if isinstance(prompt, list) for answer in prompt]
        if isinstance(prompts, list)
        else []
    )
    return [answer["message"] for answer in answers if isinstance(answer, dict) and "message" in answer] or None


def _add_details(attributes: Attributes, values: Values) -> None:
    """Add the numbers of cached, cache-written and reasoning tokens to `values`."""
    # The input and output tokens include these tokens.
    usage = parsed(text_of(attributes, f"{_METADATA}usage_metadata") or "")
    for fields in (
        (usage.get("input_token_details"), usage.get("output_token_details")) if isinstance(usage, dict) else ()
    ):
        if isinstance(fields, dict):
            add(values, v.CACHED_TOKENS, fields.get("cache_read"))
            add(values, v.CACHE_WRITE_TOKENS, fields.get("cache_creation"))
            add(values, v.REASONING_TOKENS, fields.get("reasoning"))
    given = parsed(text_of(attributes, "gen_ai.usage.input_token_details") or "")
    if isinstance(given, dict):
        add(values, v.CACHED_TOKENS, given.get("cache_read"))
        add(values, v.CACHE_WRITE_TOKENS, given.get("cache_creation"))
    answered = parsed(text_of(attributes, "gen_ai.usage.output_token_details") or "")
    if isinstance(answered, dict):
        add(values, v.REASONING_TOKENS, answered.get("reasoning"))


LANGSMITH = Dialect(
    name="LangSmith",
    signs=frozenset((_KIND, "langsmith.trace.name", "langsmith.trace.session_id")),
    names=(("langsmith.usage_metadata.total_cost", v.COST_USD), ("langsmith.metadata.user_id", v.USER_ID)),
    roles={
        _KIND: {
            "llm": Role.LLM,
            "chain": Role.CHAIN,
            "tool": Role.TOOL,
            "retriever": Role.RETRIEVER,
            "embedding": Role.EMBEDDING,
            "prompt": Role.PROMPT,
            "parser": Role.CHAIN,
            "agent": Role.AGENT,
        }
    },
    translate=_translate,
)

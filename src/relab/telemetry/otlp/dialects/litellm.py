"""LiteLLM's OpenTelemetry callback: the provider's request and response, as Python prints them, on a span of their own.

If a span of the user's program is active, the callback makes no span for a model call. It writes the attributes of the
call to the program's span instead. That span may enclose many model calls, so it does not count as a model call.
"""

from __future__ import annotations

from typing import Any, Final

from relab.telemetry.otlp import vocabulary as v
from relab.telemetry.otlp.dialects.dialect import Dialect, Values, add, text_of
from relab.telemetry.otlp.printed import read_printed
from relab.telemetry.otlp.roles import Role
from relab.telemetry.otlp.spans import Attributes, Span

_CALL_ID: Final = "litellm.call_id"
_OWN_SPANS: Final = ("litellm_request", "raw_gen_ai_request")
_PROVIDERS: Final = (
    "anthropic", "azure", "azure_ai", "bedrock", "cohere", "databricks", "deepseek", "fireworks_ai", "gemini", "groq", "hosted_vllm",
    "huggingface", "mistral", "ollama", "ollama_chat", "openai", "openrouter", "perplexity", "together_ai", "vertex_ai", "xai",
)  # fmt: skip
_MESSAGES: Final = {f"llm.{provider}.messages": f"llm.{provider}." for provider in _PROVIDERS}
_OF_A_CALL: Final = (
    v.OPERATION,
    v.REQUEST_MODEL,
    v.RESPONSE_MODEL,
    v.INPUT_MESSAGES,
    v.OUTPUT_MESSAGES,
    v.FINISH_REASONS,
)


def _translate(span: Span, values: Values) -> None:
    attributes = span.attributes
    if _CALL_ID in attributes and not _is_of_litellm(span):
        for name in _OF_A_CALL:
            values.pop(name, None)
        values[v.ROLE] = Role.CHAIN
        return
    if _CALL_ID in attributes:
        _add_caller(attributes, values)
    prefix = next((prefix for key, prefix in _MESSAGES.items() if key in attributes), None)
    if prefix is None:
        return
    values.setdefault(v.ROLE, Role.LLM)
    add(values, v.REQUEST_MODEL, attributes.get(f"{prefix}model"))
    add(values, v.INPUT_MESSAGES, _listed(attributes.get(f"{prefix}messages")))
    choices = _listed(attributes.get(f"{prefix}choices")) or []
    given = [
        {**choice["message"], "finish_reason": choice.get("finish_reason")}
        for choice in choices
        if isinstance(choice.get("message"), dict)
    ]
    add(values, v.OUTPUT_MESSAGES, given or None)
    _add_usage(attributes.get(f"{prefix}usage"), values)


def _add_caller(attributes: Attributes, values: Values) -> None:
    """Add the data that LiteLLM's proxy reports for a model call: tokens, cost, and the client's session and user."""
    add(values, v.COST_USD, attributes.get("gen_ai.cost.total_cost"))
    add(values, v.USER_ID, text_of(attributes, "metadata.user_api_key_end_user_id", "llm.user"))
    metadata = text_of(attributes, "metadata.requester_metadata")
    sent = read_printed(metadata) if metadata is not None else None
    if isinstance(sent, dict):
        add(values, v.CONVERSATION_ID, sent.get("session_id"))
    _add_usage(attributes.get("metadata.usage_object"), values)


def _is_of_litellm(span: Span) -> bool:
    """Return whether LiteLLM made the span, and not the user's program.

    A span that LiteLLM made has one of two fixed names or, with OpenTelemetry's current conventions, a name that
    consists of the operation and the model.
    """
    operation, model = span.attributes.get(v.OPERATION), span.attributes.get(v.REQUEST_MODEL)
    return span.name in _OWN_SPANS or span.name == f"{operation} {model}"


def _add_usage(printed: Any, values: Values) -> None:
    """Add token counts to `values`, read from `printed`, the `repr` of a model call's usage.

    If several model calls wrote to the same span, these are the counts of the last call only.
    """
    usage = read_printed(printed) if isinstance(printed, str) else None
    if not isinstance(usage, dict):
        return
    add(values, v.INPUT_TOKENS, usage.get("prompt_tokens"))
    add(values, v.OUTPUT_TOKENS, usage.get("completion_tokens"))
    taken, given = usage.get("prompt_tokens_details"), usage.get("completion_tokens_details")
    add(values, v.CACHED_TOKENS, taken.get("cached_tokens") if isinstance(taken, dict) else None)
    add(values, v.REASONING_TOKENS, given.get("reasoning_tokens") if isinstance(given, dict) else None)


def _listed(value: Any) -> list[dict[str, Any]] | None:
    found = read_printed(value) if isinstance(value, str) else value
    return [item for item in found if isinstance(item, dict)] or None if isinstance(found, list) else None


LITELLM = Dialect(name="LiteLLM", signs=frozenset((_CALL_ID, *_MESSAGES)), translate=_translate)

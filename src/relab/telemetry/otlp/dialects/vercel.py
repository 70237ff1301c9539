"""The Vercel AI SDK, versions 4 to 7: spans named `ai.*` with JSON texts as attributes."""

from __future__ import annotations

from typing import Any, Final

from relab.telemetry.otlp import vocabulary as v
from relab.telemetry.otlp.dialects.dialect import Dialect, Values, add, text_of
from relab.telemetry.otlp.messages import parsed, read_messages
from relab.telemetry.otlp.roles import Role
from relab.telemetry.otlp.spans import Attributes, Span
from relab.telemetry.otlp.text import as_text

_OPERATION: Final = "ai.operationId"
_OUTER: Final = ("generateText", "streamText", "generateObject", "streamObject")
_METADATA: Final = "ai.telemetry.metadata."
_INPUT_DETAILS: Final = "ai.usage.inputTokenDetails."


def _translate(span: Span, values: Values) -> None:
    attributes = span.attributes
    role = values.get(v.ROLE)
    prompt = text_of(attributes, "ai.prompt.messages")
    if prompt is None:
        prompt = _prompt(attributes)
    add(values, v.INPUT_MESSAGES, read_messages(prompt) and parsed(prompt or ""))
    if role is not Role.TOOL:
        add(values, v.OUTPUT_MESSAGES, _answer(attributes))
    function = text_of(attributes, "ai.telemetry.functionId", "resource.name")
    if role is Role.AGENT:
        add(values, v.AGENT_NAME, function)
    for key in ("sessionId", "session_id", "threadId", "conversationId", "chatId"):
        add(values, v.CONVERSATION_ID, attributes.get(_METADATA + key))
    for key in ("userId", "user_id"):
        add(values, v.USER_ID, attributes.get(_METADATA + key))
    _add_cached(attributes, values)


def _add_cached(attributes: Attributes, values: Values) -> None:
    """Increase the input tokens in `values` by the cached tokens, if the reported input tokens do not include them."""
    cached, given = values.get(v.CACHED_TOKENS), values.get(v.INPUT_TOKENS)
    provider = str(attributes.get("ai.model.provider", ""))
    if not ("anthropic" in provider or provider.startswith("amazon-bedrock")) or type(given) is not int:
        return
    # Only an SDK before version 6 passes on Anthropic's count, without cached tokens; it reports no input details.
    if type(cached) is int and not any(key.startswith(_INPUT_DETAILS) for key in attributes):
        values[v.INPUT_TOKENS] = given + cached


def _prompt(attributes: Attributes) -> str | None:
    """Return the messages in the attribute `ai.prompt` as JSON text; None if the attribute is absent.

    The attribute is JSON with either a list `messages`, or a text `prompt`, which is returned as one user message.
    """
    text = text_of(attributes, "ai.prompt")
    given = parsed(text) if text is not None and text.startswith("{") else None
    if not isinstance(given, dict) or isinstance(given.get("messages"), list):
        return text
    prompt = given.get("prompt")
    return text if not isinstance(prompt, str) else _user_message(prompt)


def _user_message(prompt: str) -> str:
    return as_text([{"role": "user", "content": prompt}]) or ""


def _answer(attributes: Attributes) -> list[Any] | None:
    text = text_of(attributes, "ai.response.text", "ai.response.object")
    calls = parsed(text_of(attributes, "ai.response.toolCalls") or "")
    if text is None and not calls:
        return None
    content = [{"type": "text", "text": text}] if text is not None else []
    if isinstance(calls, list):
        content.extend({**call, "type": "tool-call"} for call in calls if isinstance(call, dict))
    return [{"role": "assistant", "content": content}]


_ROLES: Final = {
    **{f"ai.{outer}": Role.AGENT for outer in _OUTER},
    **{f"ai.{outer}.{inner}": Role.LLM for outer in _OUTER for inner in ("doGenerate", "doStream")},
    "ai.toolCall": Role.TOOL,
    "ai.embed": Role.CHAIN,
    "ai.embedMany": Role.CHAIN,
    "ai.embed.doEmbed": Role.EMBEDDING,
    "ai.embedMany.doEmbed": Role.EMBEDDING,
}

VERCEL = Dialect(
    name="Vercel AI SDK",
    signs=frozenset((_OPERATION, "ai.toolCall.name", "ai.model.id", "ai.telemetry.functionId", "ai.prompt")),
    names=(
        ("ai.model.id", v.REQUEST_MODEL),
        ("ai.model.provider", v.PROVIDER),
        ("ai.response.model", v.RESPONSE_MODEL),
        ("ai.response.finishReason", v.FINISH_REASONS),
        ("ai.usage.inputTokens", v.INPUT_TOKENS),
        ("ai.usage.promptTokens", v.INPUT_TOKENS),
        ("ai.usage.outputTokens", v.OUTPUT_TOKENS),
        ("ai.usage.completionTokens", v.OUTPUT_TOKENS),
        ("ai.usage.cachedInputTokens", v.CACHED_TOKENS),
        (f"{_INPUT_DETAILS}cacheReadTokens", v.CACHED_TOKENS),
        (f"{_INPUT_DETAILS}cacheWriteTokens", v.CACHE_WRITE_TOKENS),
        ("ai.usage.outputTokenDetails.reasoningTokens", v.REASONING_TOKENS),
        ("ai.usage.reasoningTokens", v.REASONING_TOKENS),
        ("ai.usage.tokens", v.INPUT_TOKENS),
        ("ai.toolCall.name", v.TOOL_NAME),
        ("ai.toolCall.id", v.TOOL_CALL_ID),
        ("ai.toolCall.args", v.TOOL_ARGUMENTS),
        ("ai.toolCall.input", v.TOOL_ARGUMENTS),
        ("ai.toolCall.result", v.TOOL_RESULT),
        ("ai.toolCall.output", v.TOOL_RESULT),
        ("ai.response.object", v.OUTPUT),
    ),
    roles={_OPERATION: _ROLES},
    translate=_translate,
)

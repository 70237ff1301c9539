"""Validate a model's reply and convert it to a value of the schema."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from pydantic import ValidationError

from relab.llm.errors import LlmInvalidOutputError, LlmRefusedError
from relab.llm.gateway import AnswerT
from relab.llm.json_in_text import find_json
from relab.llm.models import TokenUsage

if TYPE_CHECKING:
    from langchain_core.messages import AIMessage

_DECLINED = frozenset({"content_filter", "refusal"})
_CUT_OFF = frozenset({"length", "max_tokens"})

_TEXT_PARTS: Final = frozenset({None, "text", "output_text"})
"""The types of the parts of a message that belong to its answer; other parts hold reasoning, for example."""


def validate_text(text: str, schema: type[AnswerT]) -> AnswerT:
    """Return the one JSON object in a model's reply as an object of `schema`; see `find_json` for the rules.

    Raises:
        LlmInvalidOutputError: the reply has no JSON object or is ambiguous, or the object does not fit the schema.
    """
    return validate_value(find_json(text), schema)


def validate_value(value: object, schema: type[AnswerT]) -> AnswerT:
    """Return a parsed JSON value as an object of `schema`.

    Raises:
        LlmInvalidOutputError: the value does not fit the schema; the message lists the types of the validation errors.
    """
    try:
        return schema.model_validate(value)
    except ValidationError as error:
        kinds = sorted({problem["type"] for problem in error.errors(include_input=False, include_url=False)})
    except RecursionError:
        kinds = ["recursion"]
    raise LlmInvalidOutputError(f"The model's answer is not a {schema.__name__}: {', '.join(kinds)}.")


def read_message(message: AIMessage, schema: type[AnswerT]) -> AnswerT:
    """Convert a model's chat message to an object of `schema`.

    The arguments of the message's tool call are converted. If it has no tool call, its text is converted.

    Raises:
        LlmRefusedError: the model or the provider's filter refused to answer.
        LlmInvalidOutputError: the answer was cut off, is empty or ambiguous, or does not fit the schema.
    """
    reason = message.response_metadata.get("finish_reason") or message.response_metadata.get("stop_reason")
    if message.additional_kwargs.get("refusal") or reason in _DECLINED:
        raise LlmRefusedError("The model declined to answer.")
    if reason in _CUT_OFF:
        raise LlmInvalidOutputError(
            "The model's answer was cut off at its token limit.", remedy="Raise RELAB_LLM__MAX_COMPLETION_TOKENS."
        )
    if message.tool_calls:
        arguments = [call["args"] for call in message.tool_calls]
        if any(each != arguments[0] for each in arguments):
            raise LlmInvalidOutputError("The model's answer is ambiguous: it has several function calls that differ.")
        return validate_value(arguments[0], schema)
    if message.invalid_tool_calls:
        # Some servers give a cut-off call the same finish reason as a complete one.
        raise LlmInvalidOutputError(
            "The arguments of the model's function call are not JSON; they may be cut off.",
            remedy="Raise RELAB_LLM__MAX_COMPLETION_TOKENS.",
        )
    text = _text(message.content)
    if not text.strip():
        raise LlmInvalidOutputError(
            "The model's answer is empty.",
            remedy="If the model reasons before it answers, raise RELAB_LLM__MAX_COMPLETION_TOKENS.",
        )
    return validate_text(text, schema)


def _text(content: str | list[Any]) -> str:
    if isinstance(content, str):
        return content
    blocks = [block for block in content if isinstance(block, dict) and block.get("type") in _TEXT_PARTS]
    return "".join(block["text"] for block in blocks if isinstance(block.get("text"), str))


def read_usage(message: AIMessage) -> TokenUsage | None:
    """Return the numbers of tokens that the model's server reported; None if they are missing or not plausible."""
    usage = message.usage_metadata
    if usage is None:
        return None
    prompt_tokens, completion_tokens = usage["input_tokens"], usage["output_tokens"]
    if prompt_tokens <= 0 or completion_tokens < 0:
        return None
    return TokenUsage(prompt_tokens, completion_tokens)

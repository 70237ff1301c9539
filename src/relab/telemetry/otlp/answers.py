"""Read the answer of a model call, from the output messages or from the provider's answer as the client received it."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from relab.telemetry.otlp import vocabulary as v
from relab.telemetry.otlp.messages import Message, all_shown, parsed, read_messages
from relab.telemetry.otlp.spans import Attributes
from relab.telemetry.otlp.text import as_text, shown_text


class CapturedAnswer(NamedTuple):
    """The answer of a model call.

    Attributes:
        messages: the messages of the answer; None if the span has no output in a known format.
        text: the answer as a timeline shows it; empty if the model is known to have said nothing; None if no answer was
            captured.
    """

    messages: list[Message] | None
    text: str | None


def answer_of(attributes: Attributes) -> CapturedAnswer:
    """Return the answer in the attributes of a model call's span.

    Use the output messages if they have content. Otherwise use the provider's own answer, if the span has it: output
    messages without content do not prove that the model said nothing, because OpenInference omits an empty content.
    """
    given = read_messages(attributes.get(v.OUTPUT_MESSAGES))
    shown = all_shown(given) if given is not None else None
    if shown is not None:
        return CapturedAnswer(given, shown)
    found = _in_provider_answer(attributes.get(v.OUTPUT))
    if found is None and attributes.get(v.OUTPUT) == _PRINTED_NOTHING:
        found = [Message("assistant", "")]
    if found is not None:
        return CapturedAnswer(found, all_shown(found) or "")
    if given and given[-1].text == "":
        return CapturedAnswer(given, "")
    shown = as_text(attributes.get(v.OUTPUT_MESSAGES)) if given is None else None
    return CapturedAnswer(given, shown or shown_text(attributes.get(v.OUTPUT)))


_PRINTED_NOTHING: Final = "assistant: None"
"""An answer of LlamaIndex without content, as Python prints it."""


def _in_provider_answer(value: Any) -> list[Message] | None:
    """Return the messages in a provider's answer, or in a list of such answers; None if `value` is neither.

    The result is empty if the answer has no message, as after a failed call in LangChain.
    """
    if isinstance(value, str):
        value = parsed(value) if value.startswith(("{", "[")) else None
    items = value if isinstance(value, list) else [value]
    found: list[Any] = []
    for item in items:
        answers = _messages_in(item) if isinstance(item, dict) else None
        if answers is None:
            return None
        found.extend(answers)
    return read_messages(found) if items else None


def _messages_in(answer: dict[str, Any]) -> list[Any] | None:
    """Return the messages in a model's answer; None if its format is not known or if it is not complete yet.

    Known formats are those of OpenAI's APIs, `generations` (LangChain), one message (Ollama's API, LlamaIndex), and an
    empty list of messages (Agno).
    """
    if answer == {"messages": []}:
        return []
    only = answer.get("message")
    if isinstance(only, dict) and isinstance(only.get("role"), str):
        return [answer]
    prompts = answer.get("generations")
    if isinstance(prompts, list):
        generated = [item for prompt in prompts for item in (prompt if isinstance(prompt, list) else [prompt])]
        return [_generated(item) for item in generated]
    kind = answer.get("object")
    field = _LISTS.get(kind) if isinstance(kind, str) else None
    listed = answer.get(field) if field is not None else None
    if not isinstance(listed, list) or answer.get("status") in _UNFINISHED:
        return None
    if kind == "chat.completion":
        return [_with_media(item) for item in listed]
    return [item for item in listed if not isinstance(item, dict) or item.get("type") != "reasoning"]


_LISTS: Final = {"response": "output", "chat.completion": "choices"}
"""`{kind of the object: the field with its messages}`, in OpenAI's APIs."""
_UNFINISHED: Final = frozenset(("queued", "in_progress"))
"""The status of a response that the provider computes in the background: its output comes later."""


def _with_media(choice: Any) -> Any:
    """Return a choice of a chat completion; if its content is empty, its other outputs become the content.

    Other outputs are images, audio (as its transcript, if any), and a tool request in the deprecated field
    `function_call`.
    """
    message = choice.get("message") if isinstance(choice, dict) else None
    if not isinstance(message, dict) or message.get("content"):
        return choice
    images, audio, request = (message.get(field) for field in ("images", "audio", "function_call"))
    parts = list(images) if isinstance(images, list) else []
    if isinstance(audio, dict):
        parts.append({"type": "text", "text": audio["transcript"]} if audio.get("transcript") else {"type": "audio"})
    if isinstance(request, dict):
        parts.append({"type": "function_call", **request})
    return {**choice, "message": {**message, "content": parts}} if parts else choice


def _generated(item: Any) -> Any:
    """Convert an entry of LangChain's list `generations` to a message.

    An entry that has a message is returned unchanged. The text of another entry becomes an assistant's message.
    """
    if not isinstance(item, dict) or isinstance(item.get("message"), dict):
        return item
    return {"role": "assistant", "content": item.get("text")}

"""Read the text with which a model refuses to answer.

OpenAI's messages do not have this text as an ordinary content, but in a field or a part named `refusal`.
"""

from __future__ import annotations

from typing import Any, Final

REFUSAL: Final = "refusal"
"""The finish reason of an answer by which a model refuses; also the name of the field with its words."""
_DETAILS: Final = "additional_kwargs"
"""The field in which LangChain keeps those fields of a message that it does not know."""


def refusal_of(message: dict[str, Any]) -> str | None:
    """Return the text of the refusal in `message`; None if the message is no refusal.

    OpenAI's Responses API has this text in parts of the content, and its Chat Completions API in the message's field
    `refusal`. A message with other content, or with tool requests, is no refusal: a structured answer may have a field
    of this name too.
    """
    content, details = message.get("content"), message.get(_DETAILS)
    if message.get("tool_calls"):
        return None
    if isinstance(content, list) and content:
        words = [str(part.get(REFUSAL) or "") for part in content if _is_refusal(part)]
        return "\n".join(words) if all(words) and len(words) == len(content) else None
    found = message.get(REFUSAL) or (details.get(REFUSAL) if isinstance(details, dict) else None)
    return found if not content and isinstance(found, str) and found else None


def _is_refusal(part: Any) -> bool:
    return isinstance(part, dict) and part.get("type") == REFUSAL

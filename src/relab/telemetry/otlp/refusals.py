"""The words of a model that refuses to answer; OpenAI's messages have them in place of a content."""

from __future__ import annotations

from typing import Any, Final

REFUSAL: Final = "refusal"
"""The finish reason of an answer by which a model refuses; also the name of the field with its words."""
_DETAILS: Final = "additional_kwargs"
"""The field in which LangChain keeps those fields of a message that it does not know."""


def refusal_of(message: dict[str, Any]) -> str | None:
    """Return the words of a refusal in `message`; None if the message is no refusal.

    A message with other content or tool requests is no refusal: its field `refusal` belongs to a structured answer.
    OpenAI's responses have the words in parts of the content; its chat completions have them in a field of the message.
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

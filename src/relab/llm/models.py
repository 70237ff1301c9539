"""Models of a call to a language model: the prompt, the way to request JSON, and the tokens used."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class OutputMethod(StrEnum):
    """The way to request JSON from a model's server: by a JSON schema, the JSON mode, or a function call.

    With each of them, relab validates the answer.
    """

    JSON_SCHEMA = "json_schema"
    JSON_MODE = "json_mode"
    FUNCTION_CALLING = "function_calling"


@dataclass(frozen=True, slots=True)
class Prompt:
    """A prompt: the instructions to the model (`system`) and the input data (`user`)."""

    system: str
    user: str

    def most_tokens(self) -> int:
        """Return an upper estimate of the prompt's tokens: one token per two bytes of UTF-8. Only emojis need more."""
        # English and JSON have three to four bytes per token; digits and rare scripts have nearly two, and only emojis have fewer.
        return (len(self.system.encode(errors="replace")) + len(self.user.encode(errors="replace"))) // 2 + 1


@dataclass(frozen=True, slots=True)
class TokenUsage:
    """The tokens that a call used, as counted by the server."""

    prompt_tokens: int
    completion_tokens: int

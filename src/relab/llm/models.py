"""The inputs and outputs of the gateway."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class OutputMethod(StrEnum):
    """How a model's server is asked for JSON: by a JSON schema, the JSON mode, or a function call.

    The gateway validates every answer.
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
        """Return a number of tokens that the prompt hardly ever exceeds: one token per two bytes of UTF-8."""
        # English and JSON have three to four bytes per token; digits and rare scripts have nearly two, and only emojis have fewer.
        return (len(self.system.encode(errors="replace")) + len(self.user.encode(errors="replace"))) // 2 + 1


@dataclass(frozen=True, slots=True)
class TokenUsage:
    """The tokens that a call used, as counted by the server."""

    prompt_tokens: int
    completion_tokens: int

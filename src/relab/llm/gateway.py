"""The seam: one question, one typed answer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, TypeAlias, TypeVar

from pydantic import BaseModel

from relab.llm.budget import Spent
from relab.llm.errors import LlmDisabledError
from relab.llm.models import Prompt

AnswerT = TypeVar("AnswerT", bound=BaseModel)

Billed: TypeAlias = Callable[[Spent], None]
"""Is told what one call has cost."""


class LlmGateway(Protocol):
    """Asks a language model for a value of a schema. Safe to share between threads."""

    def complete(
        self, prompt: Prompt, schema: type[AnswerT], *, timeout_s: float | None = None, billed: Billed | None = None
    ) -> AnswerT:
        """Return the model's answer to `prompt`, validated as a `schema`.

        `timeout_s` can only shorten the configured bound of the whole call. The answer is well
        formed and nothing more: whether it is true is for the caller to check. `billed` is called
        once for a call that was made, whatever came of it, before this returns or raises: with the
        tokens that the server counted, or, where nobody knows them, with the most that they may be.

        Raises:
            LlmDisabledError: no model is configured.
            LlmNotConfiguredError: the extra or the key is missing, or the server rejects the set-up.
            LlmBudgetExceededError: the budget does not cover the call; no request was made.
            LlmUnavailableError: no answer in time: connection, 429, 5xx, or the deadline.
            LlmRefusedError: the model declined.
            LlmInvalidOutputError: the answer is not a `schema`.
        """
        ...


class NullGateway:
    """No model: every call raises `LlmDisabledError`, at no cost."""

    def complete(
        self,
        prompt: Prompt,  # noqa: ARG002 the seam's parameter
        schema: type[AnswerT],  # noqa: ARG002 the seam's parameter
        *,
        timeout_s: float | None = None,  # noqa: ARG002 the seam's parameter
        billed: Billed | None = None,  # noqa: ARG002 the seam's parameter
    ) -> AnswerT:
        """Raise `LlmDisabledError`."""
        raise LlmDisabledError(
            "No language model is configured.", remedy="Set OPENAI_API_KEY to have one, or go on without."
        )

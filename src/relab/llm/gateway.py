"""The interface through which relab calls a language model: one prompt in, one typed answer out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, TypeAlias, TypeVar

from pydantic import BaseModel

from relab.llm.budget import Spent
from relab.llm.errors import LlmDisabledError
from relab.llm.models import Prompt

AnswerT = TypeVar("AnswerT", bound=BaseModel)

Billed: TypeAlias = Callable[[Spent], None]
"""A function that receives the cost of one call."""


class LlmGateway(Protocol):
    """Calls a language model and returns an answer that fits a schema. It is thread-safe."""

    def complete(
        self, prompt: Prompt, schema: type[AnswerT], *, timeout_s: float | None = None, billed: Billed | None = None
    ) -> AnswerT:
        """Return the model's answer to `prompt` as a validated object of `schema`.

        The caller must check whether the content of the answer is true.

        Args:
            prompt: the instructions and the data.
            schema: the class of the answer.
            timeout_s: shortens the configured time limit of the whole call, but cannot extend it. None: the configured
                limit.
            billed: is called with the cost of the model call, before this method returns or raises; not called if no
                model call was made. If the server reports no token counts, the cost is the maximum that the call could
                have cost.

        Raises:
            LlmDisabledError: no model is configured.
            LlmNotConfiguredError: the optional package (extra) or the key is missing, or the server rejects the
                configuration.
            LlmBudgetExceededError: the budget does not allow the call; no request was made.
            LlmUnavailableError: there was no answer: a connection error, status 429 or 5xx, or the deadline passed.
            LlmRefusedError: the model refused to answer.
            LlmInvalidOutputError: the answer does not fit `schema`.
        """
        ...


class NullGateway:
    """The gateway without a model: every call raises `LlmDisabledError` and costs nothing."""

    def complete(
        self,
        prompt: Prompt,  # noqa: ARG002 the seam's parameter
        schema: type[AnswerT],  # noqa: ARG002 the seam's parameter
        *,
        timeout_s: float | None = None,  # noqa: ARG002 the seam's parameter
        billed: Billed | None = None,  # noqa: ARG002 the seam's parameter
    ) -> AnswerT:
        """Raise `LlmDisabledError`, because there is no model."""
        raise LlmDisabledError(
            "No language model is configured.",
            remedy="Set OPENAI_API_KEY or ANTHROPIC_API_KEY, or RELAB_LLM__BASE_URL; or continue without a model.",
        )

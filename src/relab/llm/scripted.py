"""A gateway with scripted replies, for tests of code that uses a model."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from typing import Any, TypeAlias

from pydantic import BaseModel

from relab.core.errors import RelabError
from relab.llm.answers import validate_text, validate_value
from relab.llm.budget import Budget
from relab.llm.gateway import AnswerT, Billed
from relab.llm.models import Prompt

Scripted: TypeAlias = "BaseModel | Mapping[str, Any] | str | Exception"
"""One reply: a value, its JSON as a mapping or as text, or an exception to raise."""


class ScriptExhaustedError(RelabError):
    """A test made more calls than its script has replies. It is not an `LlmError`, so that callers do not catch it."""

    code = "script_exhausted"


class ScriptedGateway:
    """A gateway that calls no model. It returns the given replies in order, validated like the replies of a real model.

    Attributes:
        prompts: the prompts of all calls that the budget allowed, including those whose reply was an exception.
    """

    def __init__(self, replies: Iterable[Scripted], *, budget: Budget | None = None) -> None:
        self._replies = deque(replies)
        self._budget = budget or Budget()
        self.prompts: list[Prompt] = []

    def complete(
        self,
        prompt: Prompt,
        schema: type[AnswerT],
        *,
        timeout_s: float | None = None,  # noqa: ARG002 the seam's parameter
        billed: Billed | None = None,
    ) -> AnswerT:
        """Return the next reply as an object of `schema`; if the next reply is an exception, raise it.

        Raises:
            ScriptExhaustedError: the script has no more replies.
            LlmBudgetExceededError: the budget does not allow the call; the next call gets the same reply.
            LlmInvalidOutputError: the reply does not fit `schema`.
        """
        charge = self._budget.reserve(prompt.most_tokens(), 0)
        self.prompts.append(prompt)
        if billed is not None:
            billed(self._budget.billed(charge))
        if not self._replies:
            raise ScriptExhaustedError(f"Call {len(self.prompts)} has no reply in the script.")
        reply = self._replies.popleft()
        if isinstance(reply, Exception):
            raise reply
        if isinstance(reply, str):
            return validate_text(reply, schema)
        if isinstance(reply, BaseModel):
            return validate_value(reply.model_dump(), schema)
        return validate_value(reply, schema)

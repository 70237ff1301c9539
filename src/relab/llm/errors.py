"""Why a language model gave no usable answer, by what the caller should do about it.

Every caller has a deterministic result to fall back on, so it catches `LlmError` and
nothing wider. No message here holds a secret, a prompt or a server's own words: those
are untrusted, and some servers echo the key that they were sent.
"""

from __future__ import annotations

from relab.core.errors import ConfigurationError, UnavailableError


class LlmError(UnavailableError):
    """No answer from a model: go on without it."""

    code = "llm_error"


class LlmDisabledError(LlmError):
    """No model is configured, which is the normal state: go on without it, and say nothing."""

    code = "llm_disabled"


class LlmUnavailableError(LlmError):
    """The server cannot be reached, is failing or busy, or was too slow: a later call may succeed.

    Attributes:
        status: the HTTP status that the server answered with, or None if it gave none.
        retry_after_s: how long the server asked to be left alone, in seconds, or None.
    """

    code = "llm_unavailable"

    def __init__(
        self,
        message: str,
        *,
        status: int | None = None,
        retry_after_s: float | None = None,
        remedy: str | None = None,
    ) -> None:
        super().__init__(message, remedy=remedy)
        self.status = status
        self.retry_after_s = retry_after_s


class LlmRefusedError(LlmError):
    """The model, or its provider's filter, declined this prompt: do not send it again."""

    code = "llm_refused"


class LlmInvalidOutputError(LlmError):
    """The answer is not what was asked for (no JSON, another schema, cut off, too large): discard it."""

    code = "llm_invalid_output"


class LlmBudgetExceededError(LlmError):
    """The call was not made, because the budget does not cover it.

    Attributes:
        retry_after_s: when the window has room again, in whole seconds; None when it never will.
    """

    code = "llm_budget_exceeded"

    def __init__(self, message: str, *, retry_after_s: int | None = None, remedy: str | None = None) -> None:
        super().__init__(message, remedy=remedy)
        self.retry_after_s = retry_after_s


class LlmNotConfiguredError(ConfigurationError, LlmError):
    """The extra, the key or the model name is missing or wrong: an operator must act."""

    code = "llm_not_configured"

"""Errors of calls to language models, one class for each way in which the caller should react.

Every caller can also work without a model, so callers catch the base class `LlmError`, and continue. No message
contains a secret, a prompt or text from the server. A server's text is untrusted, and some servers repeat the key that
they received.
"""

from __future__ import annotations

from relab.core.errors import ConfigurationError, UnavailableError


class LlmError(UnavailableError):
    """The model gave no answer. The caller continues without an answer.

    Attributes:
        may_cost: whether the call may have used tokens. It is False if the server rejected or never received the call.
    """

    code = "llm_error"
    may_cost: bool = True


class LlmDisabledError(LlmError):
    """No model is configured, which is the default. The caller continues without a model, and reports no error."""

    code = "llm_disabled"


class LlmUnavailableError(LlmError):
    """The server cannot be reached, is failing or busy, or was too slow: a later call may succeed.

    Attributes:
        status: the HTTP status of the response, or None if there was no response.
        retry_after_s: the wait that the server requested before a retry, in seconds, or None.
    """

    code = "llm_unavailable"

    def __init__(
        self,
        message: str,
        *,
        status: int | None = None,
        may_cost: bool | None = None,
        retry_after_s: float | None = None,
        remedy: str | None = None,
    ) -> None:
        super().__init__(message, remedy=remedy)
        self.status = status
        self.may_cost = status is None if may_cost is None else may_cost
        self.retry_after_s = retry_after_s


class LlmBusyError(LlmUnavailableError):
    """No request was made: until the deadline, `max_concurrency` other calls were running. A later call may succeed."""


class LlmTooSlowError(LlmUnavailableError):
    """The model did not answer within the time limit of the call.

    `remedy` is the advice to raise the configured limit. A caller that set a shorter limit replaces this advice.
    """


class LlmRefusedError(LlmError):
    """The model, or its provider's filter, refused this prompt: do not retry it."""

    code = "llm_refused"


class LlmInvalidOutputError(LlmError):
    """The answer is invalid: it is not JSON, does not fit the schema, is cut off, or is too large. Discard it."""

    code = "llm_invalid_output"


class LlmBudgetExceededError(LlmError):
    """The call was not made, because the budget does not allow it.

    Attributes:
        retry_after_s: the time in whole seconds until the oldest call in the budget's sliding window no longer counts.
            None if waiting does not help, because the budget has no window, or no call is in the window.
    """

    code = "llm_budget_exceeded"

    def __init__(self, message: str, *, retry_after_s: int | None = None, remedy: str | None = None) -> None:
        super().__init__(message, remedy=remedy)
        self.retry_after_s = retry_after_s


class LlmNotConfiguredError(ConfigurationError, LlmError):
    """The optional package, the key or the model name is missing or wrong: an operator must act."""

    code = "llm_not_configured"
    may_cost = False

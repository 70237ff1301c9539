"""Call a real language model through LangChain: the gateway that is used if a model is configured."""

from __future__ import annotations

import functools
import importlib.util
import os
import time
from typing import TYPE_CHECKING

from relab.core.logging import get_logger
from relab.llm.answers import read_message, read_usage
from relab.llm.budget import Budget, Charge
from relab.llm.config import LlmConfig
from relab.llm.deadline import DeadlineRunner
from relab.llm.errors import LlmBusyError, LlmError, LlmInvalidOutputError, LlmNotConfiguredError
from relab.llm.gateway import AnswerT, Billed
from relab.llm.models import Prompt, TokenUsage
from relab.llm.output_methods import other_methods
from relab.llm.providers import PROVIDERS

if TYPE_CHECKING:
    from relab.llm.chat import ChatBackend

# LangChain rejects every call while one of these variables requests its first tracer, which was removed.
_REMOVED_TRACER = ("LANGCHAIN_TRACING", "LANGCHAIN_HANDLER")

_NOTHING_BILLED = TokenUsage(0, 0)

log = get_logger(__name__)


class LangChainGateway:
    """Calls one model through LangChain, on one server that uses the protocol of OpenAI or Anthropic.

    - One deadline covers the whole call, including the wait for a slot, retries and their pauses.
    - Connection errors and the statuses 408, 409, 425, 429 and 5xx are retried, at most `max_retries` times.
    - The budget counts a call once, even if it was retried.
    - Before a call, its maximum cost is reserved in the budget. The actual cost then replaces it: zero if the server
      rejected or never received the call. If the actual cost is unknown, the reserved cost stays.
    - At most `max_concurrency` calls run at the same time; the others wait for a slot. The budget does not count a call
      that got no slot before its deadline.
    """

    def __init__(self, config: LlmConfig, *, budget: Budget | None = None) -> None:
        """Check the configuration, without connecting or loading a library.

        Args:
            config: the model and the limits of a call.
            budget: limits the calls; None: there is no budget.

        Raises:
            LlmNotConfiguredError: the optional package (extra) of the model's provider is not installed, or no key is
                set for the provider's own endpoint.
        """
        package = PROVIDERS[config.provider].package
        if importlib.util.find_spec(package) is None:
            raise LlmNotConfiguredError(
                f"The package {package} is not installed.", remedy="Install it with: pip install 'relab[llm]'"
            )
        if config.api_key is None and config.base_url is None:
            raise LlmNotConfiguredError(
                f"{config.endpoint} needs an API key, but no key is set.",
                remedy="Set the key, or the base URL of a server that needs no key.",
            )
        self._config = config
        self._budget = budget or Budget()
        self._runner = DeadlineRunner(config.max_concurrency)

    @property
    def model(self) -> str:
        """The name of the model."""
        return self._config.model

    def preload(self) -> None:
        """Load the provider's library, which takes seconds, so that the first call need not load it."""
        _load(self._config.provider)

    def list_models(self, *, timeout_s: float) -> tuple[str, ...] | None:
        """Return the names of the models that the server offers; None if the server has no such list.

        No model is called, so the request costs nothing.

        Raises:
            LlmError: the server cannot be reached, rejects the key, or does not answer within `timeout_s` seconds.
        """
        backend = _load(self._config.provider)
        return self._runner.run(lambda _: backend.list_models(self._config), timeout_s)

    def complete(
        self, prompt: Prompt, schema: type[AnswerT], *, timeout_s: float | None = None, billed: Billed | None = None
    ) -> AnswerT:
        """Call the model with `prompt`, and return its answer as a validated object of the class `schema`.

        `timeout_s` shortens the configured time limit of the call. `billed` is called with the cost of the model call,
        if one was made.

        Raises:
            LlmError: there is no valid answer.
        """
        config = self._config
        _reject_removed_tracer()
        bound_s = config.timeout_s if timeout_s is None else min(timeout_s, config.timeout_s)
        charge = self._budget.reserve(prompt.most_tokens(), config.max_completion_tokens)
        started_at = time.monotonic()
        outcome, is_made = "failed", True
        try:
            answer = self._answer(prompt, schema, bound_s, charge)
            outcome = "ok"
        except LlmBusyError as error:
            outcome, is_made = error.code, False
            self._budget.cancel(charge)
            raise
        except LlmError as error:
            outcome = error.code
            raise
        finally:
            log.info(
                "llm_call",
                provider=config.provider,
                model=config.model,
                outcome=outcome,
                duration_ms=round((time.monotonic() - started_at) * 1_000),
                prompt_tokens=charge.prompt_tokens,
                completion_tokens=charge.completion_tokens,
            )
            if billed is not None and is_made:
                billed(self._budget.billed(charge))
        return answer

    def _answer(self, prompt: Prompt, schema: type[AnswerT], bound_s: float, charge: Charge) -> AnswerT:
        backend = _load(self._config.provider)
        try:
            message = self._runner.run(
                lambda ends_at: backend.ask(self._config, prompt, schema, ends_at=ends_at), bound_s
            )
        except LlmError as error:
            if not error.may_cost:
                self._budget.settle(charge, _NOTHING_BILLED)
            raise
        usage = read_usage(message)
        if usage is not None:
            self._budget.settle(charge, usage)
        try:
            return read_message(message, schema)
        except LlmInvalidOutputError as error:
            # Some servers ignore the output method (the way in which JSON is requested), and answer with prose.
            error.remedy = error.remedy or other_methods(self._config)
            raise


@functools.cache
def _load(provider: str) -> ChatBackend:
    """Return the backend for the chat models of a provider; its first call imports the provider's libraries."""
    from relab.llm.chat import ChatBackend

    return ChatBackend(PROVIDERS[provider].load())


def _reject_removed_tracer() -> None:
    for name in _REMOVED_TRACER:
        if os.environ.get(name, "").lower() not in {"", "0", "false"}:
            raise LlmNotConfiguredError(
                f"The environment variable {name} requests a tracer that LangChain removed.",
                remedy=f"Unset {name}.",
            )

"""Send the requests of one judgement (all requests about one run), within limits and with a cache of answers."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from pydantic import ValidationError

from relab.core.clock import uptime_us
from relab.core.errors import RelabError
from relab.llm import (
    Budget,
    BudgetLimits,
    LlmBudgetExceededError,
    LlmError,
    LlmGateway,
    LlmInvalidOutputError,
    LlmUnavailableError,
    MeteredGateway,
    Prompt,
    Spent,
    TokenUsage,
)
from relab.rca.judge.answers import DroppedAnswerError, JudgeAnswer
from relab.rca.judge.cache import JudgeAnswerCache
from relab.rca.judge_models import JudgeDrop

CHARS_PER_TOKEN: Final = 2
"""A token is assumed to have at least this number of characters, as in `Prompt.most_tokens`."""

_US: Final = 1_000_000
_BUDGET_REMEDY: Final = "Raise RELAB_RCA__JUDGE_MAX_CALLS, RELAB_RCA__JUDGE_MAX_TOKENS or RELAB_RCA__JUDGE_MAX_USD."

AnswerT = TypeVar("AnswerT", bound=JudgeAnswer)
CheckedT = TypeVar("CheckedT")


@dataclass(frozen=True, slots=True)
class JudgeLimits:
    """The limits of one judgement (all requests about one run).

    Attributes:
        budget: the maximum number of calls, of tokens and of USD.
        max_s: the maximum time of all calls together, in seconds.
        context_tokens: the maximum number of tokens of one prompt.
        answer_tokens: the maximum number of tokens of one answer.
    """

    budget: BudgetLimits
    max_s: float
    context_tokens: int
    answer_tokens: int = 1_024

    @property
    def context_chars(self) -> int:
        """The maximum number of characters of one prompt, derived from `context_tokens`.

        A token is assumed to have at least two characters.
        """
        return CHARS_PER_TOKEN * self.context_tokens


class JudgeLimitError(RelabError):
    """A limit of `JudgeLimits` other than the budget is reached, so no further request is sent."""

    code = "judge_limit"


class JudgeSession:
    """Sends all requests of one judgement (about one run) to a language model.

    Args:
        gateway: calls the model.
        model: the name of the model; cached answers of other models are not used.
        limits: the limits of this judgement.
        cache: the answers to earlier requests about the run.

    Attributes:
        dropped: `{reason: number of dropped answers or dropped parts of answers}`.
        cached_answers: the number of requests that were answered from the cache.
    """

    def __init__(self, gateway: LlmGateway, model: str | None, limits: JudgeLimits, cache: JudgeAnswerCache) -> None:
        self._metered = MeteredGateway(gateway)
        self._model = model
        self._limits = limits
        self._budget = Budget(limits.budget, remedy=_BUDGET_REMEDY)
        self._ends_us = uptime_us() + round(limits.max_s * _US)
        self._cache = cache
        self.dropped: Counter[JudgeDrop] = Counter()
        self.cached_answers = 0

    def require_steps(self, shown: Collection[int]) -> None:
        """Check that a prompt has at least one step of the run.

        Args:
            shown: the numbers of the steps in the prompt.

        Raises:
            JudgeLimitError: the prompt has no step, because each step is too long for `JudgeLimits.context_tokens`.
        """
        if not shown:
            raise JudgeLimitError(
                f"No step fits a prompt of {self._limits.context_tokens} tokens.",
                remedy="Raise RELAB_RCA__JUDGE_CONTEXT_TOKENS.",
            )

    def cost(self) -> dict[str, Any]:
        """Return the cost of this judgement and the numbers of dropped answers, as the fields of a `JudgeCost`."""
        spent = self._metered.spent
        return {
            "model": self._model,
            "calls": spent.calls,
            "cached_answers": self.cached_answers,
            "prompt_tokens": spent.prompt_tokens,
            "completion_tokens": spent.completion_tokens,
            "usd": spent.usd,
            "dropped": dict(sorted(self.dropped.items())),
        }

    def explain(self, error: DroppedAnswerError | JudgeLimitError | LlmError) -> str:
        """Return in words why a request has no valid answer, and what a person can do.

        A dropped answer is also counted in `dropped`.
        """
        if isinstance(error, DroppedAnswerError):
            self.dropped[error.reason] += 1
            return f"the model's answer was dropped ({error.reason})"
        # Neither contains a text of the run or of the model.
        words = str(error).rstrip(".")
        if isinstance(error, LlmInvalidOutputError):
            self.dropped[JudgeDrop.INVALID_ANSWER] += 1
            return f"the model's answer was dropped ({JudgeDrop.INVALID_ANSWER}): {words}"
        if isinstance(error, JudgeLimitError | LlmBudgetExceededError):
            return f"a limit was reached: {words}"
        return f"the model gave no answer ({error.code}): {words}"

    def ask(self, prompt: Prompt, code: str, schema: type[AnswerT], check: Callable[[AnswerT], CheckedT]) -> CheckedT:
        """Send a prompt to the model, or use its cached answer, and return the result of `check` for the answer.

        An answer that passes `check` is cached.

        Args:
            prompt: the prompt.
            code: the check code (a digest) in the prompt, which the answer must repeat.
            schema: the type of the answer.
            check: returns the checked form of an answer, or raises `DroppedAnswerError`.

        Raises:
            JudgeLimitError: the time limit was reached, before the request or while the model did not answer.
            LlmBudgetExceededError: the budget is spent; no request was sent.
            DroppedAnswerError: the answer does not repeat `code`, or does not pass `check`.
            LlmError: the model gave no answer.
        """
        key = self._key(prompt, schema)
        stored = self._stored(key, schema)
        if stored is not None:
            self.cached_answers += 1
            return check(stored)
        try:
            answer = self._call(prompt, schema, self._left_s())
        except LlmUnavailableError:
            # The time limit may have cut the call short.
            self._left_s()
            raise
        if answer.code != code:
            # A text of the run that dictates an answer cannot contain the code, which depends on all texts.
            raise DroppedAnswerError(JudgeDrop.WRONG_CODE)
        checked = check(answer)
        self._cache.put(key, answer.model_dump_json())
        return checked

    def _left_s(self) -> float:
        """Return how many seconds are left for requests.

        Raises:
            JudgeLimitError: no time is left.
        """
        left_s = (self._ends_us - uptime_us()) / _US
        if left_s <= 0:
            raise JudgeLimitError(
                f"The judge may take {self._limits.max_s:g} s, which are over.", remedy="Raise RELAB_RCA__JUDGE_MAX_S."
            )
        return left_s

    def _call(self, prompt: Prompt, schema: type[AnswerT], left_s: float) -> AnswerT:
        charge = self._budget.reserve(prompt.most_tokens(), self._limits.answer_tokens)
        usage = TokenUsage(0, 0)

        def note(spent: Spent) -> None:
            nonlocal usage
            usage = TokenUsage(spent.prompt_tokens, spent.completion_tokens)

        try:
            return self._metered.complete(prompt, schema, timeout_s=left_s, billed=note)
        finally:
            self._budget.settle(charge, usage)

    def _key(self, prompt: Prompt, schema: type[AnswerT]) -> str:
        parts = (self._model or "", schema.__name__, prompt.system, prompt.user)
        return hashlib.sha256("\0".join(parts).encode(errors="replace")).hexdigest()

    def _stored(self, key: str, schema: type[AnswerT]) -> AnswerT | None:
        text = self._cache.get(key)
        try:
            return None if text is None else schema.model_validate_json(text)
        except ValidationError:
            # Another version of relab stored the answer, in another format.
            return None

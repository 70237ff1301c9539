"""A budget for calls to a model. It reserves the maximum cost before a call, and charges the real cost after it."""

from __future__ import annotations

import math
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from relab.core.clock import uptime_us
from relab.llm.errors import LlmBudgetExceededError
from relab.llm.models import TokenUsage

_US = 1_000_000


class BudgetLimits(BaseModel):
    """The limits of a budget for calls to a model; None means no limit.

    Attributes:
        max_usd: the maximum cost in USD; it requires both prices.
        prompt_usd_per_million, completion_usd_per_million: the prices in USD of a million tokens of the prompt, and of
            the answer.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    max_calls: int | None = Field(default=None, ge=0)
    max_prompt_tokens: int | None = Field(default=None, ge=0)
    max_completion_tokens: int | None = Field(default=None, ge=0)
    max_usd: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    prompt_usd_per_million: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    completion_usd_per_million: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    window_s: float | None = Field(
        default=None, gt=0, description="Sliding window; None counts over the budget's lifetime."
    )

    @model_validator(mode="after")
    def _usd_needs_prices(self) -> Self:
        if self.max_usd is not None and None in (self.prompt_usd_per_million, self.completion_usd_per_million):
            raise ValueError("max_usd needs prompt_usd_per_million and completion_usd_per_million")
        return self

    def usd(self, prompt_tokens: int, completion_tokens: int) -> float | None:
        """Return the price in USD of the tokens of a prompt and its answer; None if a needed price is not set.

        The price of prompt tokens is needed only if there are prompt tokens, the price of answer tokens only if there
        are answer tokens.
        """
        total = 0.0
        for tokens, price in (
            (prompt_tokens, self.prompt_usd_per_million),
            (completion_tokens, self.completion_usd_per_million),
        ):
            if tokens and price is None:
                return None
            total += tokens * (price or 0.0)
        return total / 1_000_000


@dataclass(slots=True)
class Charge:
    """The tokens charged for one call: at first the reserved maximum, and after the call the tokens that it used.

    Attributes:
        at_us: the time of the reservation in microseconds, by the budget's monotonic clock.
        expired: whether the charge no longer counts, because it has left the sliding window or was cancelled.
    """

    at_us: int
    prompt_tokens: int
    completion_tokens: int
    expired: bool = False


@dataclass(frozen=True, slots=True)
class Spent:
    """The totals of one or more calls. A call counts with its reserved maximum until it is settled with its real cost.

    `usd` is None if the price of some tokens is not known.
    """

    calls: int
    prompt_tokens: int
    completion_tokens: int
    usd: float | None


class Budget:
    """Limits the number, the tokens and the cost of calls to a model. It is thread-safe.

    The limits apply to a sliding window if `limits.window_s` is set, otherwise to this object's lifetime. `reserve`
    charges the maximum cost of a call before it starts. After the call, `settle` charges the real cost instead. A call
    that was not made is removed by `cancel`. Each process has a separate budget.

    Args:
        limits: the limits; None: no limits.
        remedy: what a person can do when the limits do not allow a call; part of the error message.
        uptime_us: a monotonic clock: a function that returns the time in microseconds.
    """

    def __init__(
        self,
        limits: BudgetLimits | None = None,
        *,
        remedy: str = "Raise the limit in the settings.",
        uptime_us: Callable[[], int] = uptime_us,
    ) -> None:
        self._limits = limits or BudgetLimits()
        self._remedy = remedy
        self._uptime_us = uptime_us
        self._lock = threading.Lock()
        self._in_window: deque[Charge] = deque()
        self._calls = 0
        self._prompt_tokens = 0
        self._completion_tokens = 0

    def reserve(self, prompt_tokens: int, completion_tokens: int) -> Charge:
        """Reserve the maximum numbers of tokens that a call may use, and return the reservation.

        Raises:
            LlmBudgetExceededError: the limits do not allow the call; nothing was reserved.
        """
        with self._lock:
            now_us = self._uptime_us()
            self._drop_expired(now_us)
            problem = self._problem(prompt_tokens, completion_tokens)
            if problem is not None:
                raise LlmBudgetExceededError(
                    f"The model was not called: {problem}.",
                    retry_after_s=self._retry_after_s(now_us),
                    remedy=self._remedy,
                )
            charge = Charge(now_us, prompt_tokens, completion_tokens)
            self._calls += 1
            self._add(prompt_tokens, completion_tokens)
            if self._limits.window_s is not None:
                self._in_window.append(charge)
            return charge

    def settle(self, charge: Charge, usage: TokenUsage) -> None:
        """Replace the reservation `charge` with the tokens that the call really used."""
        with self._lock:
            if not charge.expired:
                self._add(
                    usage.prompt_tokens - charge.prompt_tokens, usage.completion_tokens - charge.completion_tokens
                )
            charge.prompt_tokens = usage.prompt_tokens
            charge.completion_tokens = usage.completion_tokens

    def cancel(self, charge: Charge) -> None:
        """Remove the reservation `charge` of a call that was not made."""
        with self._lock:
            if not charge.expired:
                self._calls -= 1
                self._add(-charge.prompt_tokens, -charge.completion_tokens)
            self._in_window = deque(each for each in self._in_window if each is not charge)
            charge.prompt_tokens = charge.completion_tokens = 0
            charge.expired = True

    def billed(self, charge: Charge) -> Spent:
        """Return the tokens and the cost of one call; before `settle`, these are the reserved maximum."""
        with self._lock:
            usd = self._limits.usd(charge.prompt_tokens, charge.completion_tokens)
            return Spent(1, charge.prompt_tokens, charge.completion_tokens, usd)

    def spent(self) -> Spent:
        """Return the sums of all charges in the sliding window; without a window, of all charges so far."""
        with self._lock:
            self._drop_expired(self._uptime_us())
            usd = self._limits.usd(self._prompt_tokens, self._completion_tokens)
            return Spent(self._calls, self._prompt_tokens, self._completion_tokens, usd)

    def _add(self, prompt_tokens: int, completion_tokens: int) -> None:
        self._prompt_tokens += prompt_tokens
        self._completion_tokens += completion_tokens

    def _problem(self, prompt_tokens: int, completion_tokens: int) -> str | None:
        limits = self._limits
        prompt_tokens += self._prompt_tokens
        completion_tokens += self._completion_tokens
        wanted: tuple[tuple[str, float, float | None], ...] = (
            ("calls", self._calls + 1, limits.max_calls),
            ("prompt tokens", prompt_tokens, limits.max_prompt_tokens),
            ("completion tokens", completion_tokens, limits.max_completion_tokens),
            # A limit in USD needs both prices, so the price is known where it is compared.
            ("USD", limits.usd(prompt_tokens, completion_tokens) or 0.0, limits.max_usd),
        )
        for unit, amount, limit in wanted:
            if limit is not None and amount > limit:
                return f"the budget is {limit:g} {unit}, and this call could bring it to {amount:g}"
        return None

    def _drop_expired(self, now_us: int) -> None:
        while self._in_window and self._expires_us(self._in_window[0]) <= now_us:
            charge = self._in_window.popleft()
            charge.expired = True
            self._calls -= 1
            self._add(-charge.prompt_tokens, -charge.completion_tokens)

    def _expires_us(self, charge: Charge) -> int:
        return charge.at_us + round((self._limits.window_s or 0.0) * _US)

    def _retry_after_s(self, now_us: int) -> int | None:
        if not self._in_window:
            return None
        return max(1, math.ceil((self._expires_us(self._in_window[0]) - now_us) / _US))

"""The cost of a run: its tokens, the cost that was reported, and the estimate that relab computes.

Token counts follow OpenTelemetry's conventions. The prompt tokens include the tokens read from and written to a
provider's cache; the completion tokens include the reasoning tokens. A count of None means "not known", never zero.
"""

from __future__ import annotations

from typing import Annotated, Final, NamedTuple

from pydantic import BaseModel, ConfigDict, Field

MAX_COST_USD: Final = 1e12
MAX_MODELS: Final = 100
"""The maximum number of models whose tokens a run reports one by one."""

Tokens = Annotated[int, Field(ge=0, le=2**63 - 1)]
# The seed's answers do not have these fields, so they are in an answer only if they are known.
_Known = Annotated[Tokens | None, Field(exclude_if=lambda value: value is None)]
_Name = Annotated[str, Field(max_length=1_000)]


class _CostModel(BaseModel):
    model_config = ConfigDict(extra="allow", strict=True, frozen=True)


class ModelUsage(_CostModel):
    """The tokens of one model in a run."""

    provider: _Name | None = Field(None, description="The provider, as the reporter names it.")
    model: _Name
    tokens_prompt: Tokens | None = None
    tokens_cached: Tokens | None = Field(None, description="The prompt tokens that were read from a cache.")
    tokens_cache_write: Tokens | None = Field(None, description="The prompt tokens that were written to a cache.")
    tokens_completion: Tokens | None = None
    tokens_reasoning: Tokens | None = Field(None, description="The completion tokens that are reasoning.")


class Cost(_CostModel):
    """The tokens and the cost of a run; `total_cost_usd` is the cost that was reported, never an estimate."""

    tokens_prompt: Tokens | None = None
    tokens_cached: _Known = Field(None, description="The prompt tokens that were read from a cache.")
    tokens_cache_write: _Known = Field(None, description="The prompt tokens that were written to a cache.")
    tokens_completion: Tokens | None = None
    tokens_reasoning: _Known = Field(None, description="The completion tokens that are reasoning.")
    total_cost_usd: Annotated[float, Field(ge=0, le=MAX_COST_USD, allow_inf_nan=False)] | None = None
    calls_without_cost: _Known = Field(
        None, description="Calls of models whose cost is not part of `total_cost_usd`; null if it is complete."
    )
    calls_without_tokens: _Known = Field(
        None, description="Answered calls of models whose tokens are not part of the counts; null if there are none."
    )
    by_model: Annotated[list[ModelUsage], Field(max_length=MAX_MODELS)] | None = Field(
        None, description="The tokens of each model, if spans report them.", exclude_if=lambda value: value is None
    )

    @property
    def is_reported(self) -> bool:
        """Whether a cost in USD was reported; if not, the cost can only be estimated from tokens."""
        return self.total_cost_usd is not None


class BilledTokens(NamedTuple):
    """The billed tokens of one model, summed over its calls; a count that is not reported is 0.

    `prompt` includes the tokens read from the provider's cache (`cached`) and the tokens written to it (`cache_write`).
    """

    prompt: int
    cached: int
    cache_write: int
    completion: int


class CostEstimate(BaseModel):
    """An estimate of a run's cost from its tokens and a table of prices, made if no cost was reported."""

    total_cost_usd: float | None = Field(description="Null if tokens or prices are missing.")
    prices_as_of: str | None = Field(description="The date of the oldest price that was used.")
    missing: str | None = Field(description="Why there is no estimate, and what to do; null if there is one.")


def billed_tokens(usage: ModelUsage) -> BilledTokens | None:
    """Return those token counts of a model's usage that decide its cost; a missing count of cached tokens becomes 0.

    Return None if the number of prompt tokens or of completion tokens is not known.
    """
    if usage.tokens_prompt is None or usage.tokens_completion is None:
        return None
    return BilledTokens(
        usage.tokens_prompt, usage.tokens_cached or 0, usage.tokens_cache_write or 0, usage.tokens_completion
    )


def usage_by_model(cost: Cost | None, model: str | None) -> list[ModelUsage]:
    """Return the tokens of each model of a run.

    The list is empty if the prompt tokens, the tokens of some calls, or the names of the models are not known.

    Args:
        cost: the tokens of the run; None if they were not reported.
        model: the model that used all tokens of the run; None if not known. It is ignored if `cost` has token counts
            for each model.
    """
    if cost is None or cost.calls_without_tokens:
        return []
    if cost.by_model:
        return cost.by_model
    if not model or cost.tokens_prompt is None:
        return []
    return [
        ModelUsage(
            model=model,
            tokens_prompt=cost.tokens_prompt,
            tokens_cached=cost.tokens_cached,
            tokens_cache_write=cost.tokens_cache_write,
            tokens_completion=cost.tokens_completion,
            tokens_reasoning=cost.tokens_reasoning,
        )
    ]

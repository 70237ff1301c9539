"""Estimate the cost of a run from its tokens."""

from __future__ import annotations

import math
from collections.abc import Iterable

from relab.telemetry.cost_models import BilledTokens, Cost, CostEstimate, billed_tokens, usage_by_model
from relab.telemetry.models import RunFields
from relab.telemetry.prices.models import PriceTable

ModelTokens = tuple[str | None, str, BilledTokens]
"""`(provider, model, tokens)`."""


def estimate_run(run: RunFields, table: PriceTable) -> CostEstimate | None:
    """Return the estimated cost of a run, computed with the prices in `table`.

    Return None if the run reports its cost, because it then needs no estimate, or if it reports too little about its
    tokens (`estimate_cost`). If some of the tokens, the model or a price is not known, the estimate has no amount, and
    states what is missing.
    """
    return estimate_cost(run.cost, run.model, table)


def estimate_cost(cost: Cost | None, model: str | None, table: PriceTable) -> CostEstimate | None:
    """Return the estimated cost of the tokens in `cost`, computed with the prices in `table`.

    Return None if `cost` is None or has a reported cost in USD, or if it has neither prompt tokens, nor the tokens of
    each model, nor `calls_without_tokens`. If some of the tokens, the model or a price is not known, the estimate has no
    amount, and states what is missing.

    `model` is the model that used all the tokens, None if not known; it is ignored if `cost` has the tokens of each
    model.
    """
    if cost is None or cost.is_reported:
        return None
    if cost.calls_without_tokens:
        return _missing(f"{cost.calls_without_tokens} calls of models report no tokens")
    usage = usage_by_model(cost, model)
    if not usage:
        return None if cost.tokens_prompt is None else _missing("the run names no model")
    tokens: list[ModelTokens] = []
    for entry in usage:
        billed = billed_tokens(entry)
        if billed is None:
            return _missing(f"the prompt or completion tokens of {entry.model!r} are not reported")
        tokens.append((entry.provider, entry.model, billed))
    return estimate(tokens, table)


def estimate(tokens: Iterable[ModelTokens], table: PriceTable) -> CostEstimate:
    """Return the estimated cost of the tokens of several models, computed with the prices in `table`.

    If a model has no usable price, the estimate has no amount, and states which price is missing.
    """
    costs, dates = [], []
    for provider, model, billed in tokens:
        price = table.find(provider, model)
        if price is None:
            of = f" of the provider {provider!r}" if provider else ""
            return _missing(f"no price of the model {model!r}{of} is known; add one with `lab prices set`")
        usd = price.usd(billed)
        if usd is None:
            kind = "cached_input" if billed.cached and price.cached_input is None else "cache_write"
            return _missing(f"the price {kind} of the model {model!r} is not known; add it with `lab prices set`")
        costs.append(usd)
        dates.append(price.as_of)
    as_of = min(dates).isoformat() if dates else None
    # `fsum` is exact, so that the sum does not depend on the order of the models.
    return CostEstimate(total_cost_usd=math.fsum(costs), prices_as_of=as_of, missing=None)


def _missing(what: str) -> CostEstimate:
    return CostEstimate(total_cost_usd=None, prices_as_of=None, missing=what)

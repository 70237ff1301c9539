"""A price of a model, and a table that finds prices by the names of providers and models in telemetry."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterable, Mapping
from fnmatch import translate
from functools import cached_property
from typing import Annotated, Final

from pydantic import BaseModel, ConfigDict, Field

from relab.core.errors import InvalidInputError
from relab.telemetry.cost_models import BilledTokens

MAX_USD_PER_MILLION: Final = 1_000_000
MILLION: Final = 1_000_000

_Usd = Annotated[float, Field(ge=0, le=MAX_USD_PER_MILLION, allow_inf_nan=False)]
_Name = Annotated[str, Field(min_length=1, max_length=200)]

PROVIDER_NAMES: Final[Mapping[str, re.Pattern[str]]] = {
    "openai": re.compile(r"openai(\.(chat|responses|completion|embedding))?"),
    "anthropic": re.compile(r"anthropic(\.messages)?"),
    "google": re.compile(r"google(_genai|\.generative-ai)?|gemini|gcp\.(gemini|gen_ai)"),
}
"""The names by which telemetry reports each provider's own API. A cloud that resells models (Azure, Bedrock, Vertex AI)
is another provider: its prices may differ."""


class PriceError(InvalidInputError):
    """A price or a file of prices is not valid. `problems` names the field, the value and the remedy."""

    code = "invalid_price"


class Price(BaseModel):
    """The prices of one model of one provider, in USD for a million tokens; `input` is the price of prompt tokens.

    A price of None is not known: the cost of a run that used tokens of this kind is not estimated.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    provider: _Name
    model: _Name
    aliases: Annotated[tuple[_Name, ...], Field(max_length=50, strict=False)] = ()
    """Other names of the model; `*` stands for any characters, `?` for one."""
    input: _Usd
    output: _Usd
    """0 for models without output tokens, such as embeddings."""
    cached_input: _Usd | None = None
    """The price of tokens that are read from the provider's cache."""
    cache_write: _Usd | None = None
    """The price of tokens that are written to the provider's cache, for its shortest lifetime."""
    as_of: Annotated[dt.date, Field(strict=False)]
    """The date on which the source showed this price."""
    source: Annotated[str, Field(min_length=1, max_length=500)]
    is_own: bool = False
    """Whether the price is from the file of this installation."""

    def usd(self, tokens: BilledTokens) -> float | None:
        """Return the cost of the tokens in USD; None if the price of one kind of them is not known."""
        if (tokens.cached and self.cached_input is None) or (tokens.cache_write and self.cache_write is None):
            return None
        plain = max(tokens.prompt - tokens.cached - tokens.cache_write, 0)
        parts = (
            plain * self.input,
            tokens.cached * (self.cached_input or 0.0),
            tokens.cache_write * (self.cache_write or 0.0),
            tokens.completion * self.output,
        )
        return sum(parts) / MILLION

    def serves(self, provider: str | None) -> bool:
        """Return whether the price applies to `provider`, a name that telemetry reports; True if `provider` is None."""
        if provider is None or provider.casefold() == self.provider.casefold():
            return True
        names = PROVIDER_NAMES.get(self.provider.casefold())
        return names is not None and names.fullmatch(provider.casefold()) is not None


class PriceTable:
    """Prices, found by model and provider.

    A price with the exact name of a model has precedence over a price with a pattern that matches the name. A name that
    includes the provider (`openai/gpt-4o`) is first looked up as it is, then without the provider. Among prices that
    match in the same way, the first one in the table has precedence.
    """

    def __init__(self, prices: Iterable[Price]) -> None:
        self.prices = tuple(prices)

    @cached_property
    def _exact(self) -> dict[str, list[Price]]:
        found: dict[str, list[Price]] = {}
        for price in self.prices:
            for name in (price.model, *price.aliases):
                found.setdefault(name.casefold(), []).append(price)
        return found

    @cached_property
    def _patterns(self) -> list[tuple[bool, re.Pattern[str], Price]]:
        return [
            ("/" in alias, re.compile(translate(alias.casefold())), price)
            for price in self.prices
            for alias in price.aliases
            if "*" in alias or "?" in alias
        ]

    def find(self, provider: str | None, model: str) -> Price | None:
        """Return the price of a model; None if the table has no price for it.

        Args:
            provider: the provider as telemetry names it. If None, a provider at the start of `model` is used; if
                `model` names no provider, prices of all providers are considered.
            model: the model as telemetry names it, with or without its provider (`openai/gpt-4o`, `models/gemini-…`).
        """
        whole = name = model.casefold()
        known = next((price for price in self._exact.get(name, ()) if price.serves(provider)), None)
        if known is not None:
            return known
        given = provider
        # A name without a price may begin with the provider; the names of some models contain a slash themselves.
        prefix, separator, rest = name.partition("/")
        if separator and prefix == "models":
            name = rest
        elif separator:
            provider, name = provider or prefix, rest
        known = next((price for price in self._exact.get(name, ()) if price.serves(provider)), None)
        if known is not None:
            return known
        # A pattern without a slash is compared with the name alone, because its `*` would match any provider.
        return next(
            (
                price
                for has_slash, pattern, price in self._patterns
                if (pattern.match(name) and price.serves(provider))
                or (has_slash and pattern.match(whole) and price.serves(given))
            ),
            None,
        )

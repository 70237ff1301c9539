"""`lab prices`: list and set the prices of language models. relab estimates the costs of runs by these prices."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from relab.cli.context import open_services
from relab.cli.output import JsonOption, plain, print_json, print_table

app = typer.Typer(help="Prices of language models, for estimates of costs: list, set.", no_args_is_help=True)

Usd = Annotated[float | None, typer.Option(help="USD for a million tokens.")]


@app.command("list")
def list_prices(
    model: Annotated[str | None, typer.Option(help="Only the price that counts for this model.")] = None,
    provider: Annotated[str | None, typer.Option(help="Only prices of this provider.")] = None,
    as_json: JsonOption = False,
) -> None:
    """List the prices of language models in use, each with its date and source.

    Prices that were set for this installation come first; they have precedence over shipped prices.
    """
    with open_services() as services:
        table = services.telemetry.prices.table()
    if model is not None:
        found = table.find(provider, model)
        prices = [found] if found is not None else []
    else:
        prices = [price for price in table.prices if price.serves(provider)]
    if as_json:
        print_json("prices list", unit="USD per million tokens", items=[_fields(price) for price in prices])
        return
    rows = (
        (
            price.model,
            price.provider,
            f"{price.input:g}",
            _text(price.cached_input),
            _text(price.cache_write),
            f"{price.output:g}",
            price.as_of.isoformat(),
            "own" if price.is_own else "shipped",
            price.source,
        )
        for price in prices
    )
    columns = ("model", "provider", "input", "cached input", "cache write", "output", "as of", "from", "source")
    print_table("Prices in USD for a million tokens", columns, rows)


@app.command("set")
def set_price(
    model: Annotated[str, typer.Argument(help="The model's name, as telemetry reports it.")],
    provider: Annotated[str, typer.Option(help="The provider, such as openai or anthropic, or a name of your own.")],
    price_in: Annotated[float, typer.Option("--input", help="USD for a million prompt tokens.")],
    price_out: Annotated[
        float, typer.Option("--output", help="USD for a million completion tokens; 0 if it has none.")
    ],
    cached_input: Usd = None,
    cache_write: Usd = None,
    alias: Annotated[
        list[str] | None, typer.Option(help="Another name of the model; * stands for any characters. Repeatable.")
    ] = None,
    as_of: Annotated[str | None, typer.Option(help="The date of the price, YYYY-MM-DD; by default today.")] = None,
    source: Annotated[str, typer.Option(help="Where the price is from, such as a URL or a contract.")] = "set by hand",
    as_json: JsonOption = False,
) -> None:
    """Set the price of a model for this installation, in `$RELAB_HOME/prices.yaml`; it applies at once, to all runs."""
    from relab.core.clock import format_time

    with open_services() as services:
        fields: dict[str, Any] = {
            "provider": provider,
            "model": model,
            "aliases": alias or [],
            "input": price_in,
            "output": price_out,
            "cached_input": cached_input,
            "cache_write": cache_write,
            "as_of": as_of or format_time(services.clock.now_us())[:10],
            "source": source,
        }
        price = services.telemetry.prices.set(fields)
    if as_json:
        print_json("prices set", price=_fields(price))
    else:
        print(
            f"The price of {plain(price.model)} ({plain(price.provider)}) is {price.input:g} + {price.output:g} USD, as of {price.as_of}."
        )


def _fields(price: Any) -> dict[str, Any]:
    return dict(price.model_dump(mode="json"))


def _text(usd: float | None) -> str | None:
    return None if usd is None else f"{usd:g}"

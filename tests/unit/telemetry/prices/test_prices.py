"""Prices: shipped and custom prices, the names of models, and estimates of costs."""

from __future__ import annotations

import os
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from relab.telemetry.models import AgentRun
from relab.telemetry.prices import USER_FILE, Price, PriceBook, PriceError, PriceTable, estimate_run
from support.telemetry.runs import minimal_run

FIELDS: dict[str, Any] = {
    "provider": "openai", "model": "gpt-x", "input": 2.0, "output": 8.0, "cached_input": 0.5, "as_of": "2026-01-31",
    "source": "contract 17",
}  # fmt: skip
ENTRY = "prices:\n  - {provider: p, model: m, input: 1, output: 2, as_of: 2026-01-31, source: s}\n"


def price_of(provider: str | None, model: str) -> float | None:
    found = PriceBook().table().find(provider, model)
    return found and found.input


def test_every_shipped_price_has_a_date_a_source_and_a_name_of_its_own() -> None:
    prices = PriceBook().table().prices
    names = [(price.provider, name) for price in prices for name in (price.model, *price.aliases)]

    assert len(prices) > 20
    assert len(set(names)) == len(names)
    assert all(price.source.startswith("https://") for price in prices)
    assert all(price.as_of.year >= 2024 for price in prices)
    assert not any(price.is_own for price in prices)
    for price in prices:
        assert price.cached_input is None or price.cached_input < price.input, price.model
        assert price.cache_write is None or price.cache_write > price.input, price.model


@pytest.mark.parametrize(
    ("provider", "model", "expected"),
    [
        (None, "gpt-4o", 2.5),
        ("openai", "GPT-4o", 2.5),
        ("openai.chat", "gpt-4o-2024-11-20", 2.5),
        ("openai", "gpt-4o-2024-05-13", 5),
        (None, "openai/gpt-4o-mini", 0.15),
        ("openai", "openai/gpt-4o-mini", 0.15),
        ("openai", "gpt-4.1-2025-04-14", 2),
        ("openai", "gpt-4o-audio-preview", None),
        ("openai", "gpt-4.1-mini-search", None),
        ("azure.ai.openai", "gpt-4o", None),
        ("aws.bedrock", "claude-haiku-4-5", None),
        ("anthropic", "claude-haiku-4-5-20251001", 1),
        ("anthropic", "gpt-4o", None),
        (None, "scripted-1", None),
    ],
)
def test_price_is_found_by_the_names_of_its_own_provider_only(
    provider: str | None, model: str, expected: float | None
) -> None:
    assert price_of(provider, model) == expected


def run_with(cost: dict[str, Any], model: str | None = "gpt-x") -> AgentRun:
    return AgentRun.model_validate(minimal_run(model=model, cost=cost))


TABLE = PriceTable([Price.model_validate(FIELDS)])


def test_cached_tokens_are_priced_apart_and_only_once() -> None:
    run = run_with({"tokens_prompt": 1_000_000, "tokens_cached": 600_000, "tokens_completion": 100_000})
    estimated = estimate_run(run, TABLE)

    assert estimated is not None
    assert estimated.total_cost_usd == pytest.approx(0.4 * 2 + 0.6 * 0.5 + 0.1 * 8)
    assert estimated.prices_as_of == "2026-01-31"
    assert estimated.missing is None


def test_reasoning_tokens_are_part_of_the_completion() -> None:
    cost = {"tokens_prompt": 0, "tokens_completion": 1_000_000}
    with_reasoning = estimate_run(run_with(cost | {"tokens_reasoning": 900_000}), TABLE)

    assert with_reasoning == estimate_run(run_with(cost), TABLE)


def test_reported_cost_is_never_estimated() -> None:
    assert estimate_run(run_with({"tokens_prompt": 5, "tokens_completion": 5, "total_cost_usd": 0}), TABLE) is None


@pytest.mark.parametrize("cost", [{}, {"tokens_completion": 5}, {"by_model": []}])
def test_run_without_prompt_tokens_has_no_estimate(cost: dict[str, Any]) -> None:
    assert estimate_run(run_with(cost), TABLE) is None


@pytest.mark.parametrize(
    ("cost", "model", "missing"),
    [
        ({"tokens_prompt": 5, "tokens_completion": 5}, "other", "no price of the model 'other' is known"),
        ({"tokens_prompt": 5, "tokens_completion": 5}, None, "the run names no model"),
        ({"tokens_prompt": 5}, "gpt-x", "completion tokens of 'gpt-x' are not reported"),
        ({"tokens_prompt": 5, "tokens_completion": 5, "calls_without_tokens": 2}, "gpt-x", "2 calls of models report"),
        ({"calls_without_tokens": 2}, None, "2 calls of models report no tokens"),
        ({"tokens_prompt": 5, "tokens_cache_write": 1, "tokens_completion": 5}, "gpt-x", "the price cache_write of"),
    ],
)
def test_incomplete_usage_or_price_gives_no_estimate_but_the_reason(
    cost: dict[str, Any], model: str | None, missing: str
) -> None:
    estimated = estimate_run(run_with(cost, model), TABLE)

    assert estimated is not None
    assert estimated.total_cost_usd is None
    assert missing in (estimated.missing or "")


def test_own_price_takes_precedence_at_once(tmp_path: Path) -> None:
    book = PriceBook(tmp_path)
    assert (found := book.table().find("openai", "gpt-4o"))
    assert found.input == 2.5

    book.set(FIELDS | {"model": "gpt-4o", "input": 1.0})
    other = PriceBook(tmp_path)
    for reader in (book, other):
        assert (found := reader.table().find("openai", "gpt-4o"))
        assert found.input == 1.0
        assert found.is_own
    book.set(FIELDS | {"model": "gpt-4o", "input": 0.75})
    os.utime(tmp_path / USER_FILE, ns=(1, 1))
    assert (found := other.table().find("openai", "gpt-4o"))
    assert found.input == 0.75
    assert len([price for price in other.table().prices if price.is_own]) == 1


@pytest.mark.parametrize(
    ("change", "field", "words"),
    [
        ({"input": -1.0}, "input", ("-1.0", "USD for a million tokens")),
        ({"output": "8"}, "output", ("'8'", "number")),
        ({"as_of": "soon"}, "as_of", ("'soon'", "2026-01-31")),
        ({"surprise": 1}, "surprise", ("remove it", "cached_input")),
        ({"source": None}, "source", ("None", "string")),
    ],
)
def test_problem_of_a_price_names_field_value_and_remedy(
    change: dict[str, Any], field: str, words: tuple[str, ...], tmp_path: Path
) -> None:
    with pytest.raises(PriceError) as raised:
        PriceBook(tmp_path).set(FIELDS | change)

    [(named, message)] = raised.value.problems
    assert named == field
    for word in words:
        assert word in message
    assert not (tmp_path / USER_FILE).exists()


def test_error_in_the_file_leaves_the_shipped_prices(tmp_path: Path) -> None:
    (tmp_path / USER_FILE).write_text(ENTRY.replace("input: 1", "input: -1"))
    book = PriceBook(tmp_path)

    assert (found := book.usable().find("openai", "gpt-4o"))
    assert found.input == 2.5
    (tmp_path / USER_FILE).write_text(ENTRY)
    assert (found := book.usable().find("p", "m"))
    assert found.is_own


@pytest.mark.parametrize(
    ("text", "place", "words"),
    [
        (ENTRY.replace("input: 1", "input: -1"), "prices.yaml:2: prices.0.input", "-1"),
        (ENTRY.replace(" source: s", ""), "prices.yaml:2: prices.0.source", "add this field"),
        ("models: []\n", "prices.yaml", "its only key must be `prices`"),
        ("prices: [\n", "prices.yaml:2", "is not YAML"),
    ],
)
def test_problem_of_the_file_names_its_line(text: str, place: str, words: str, tmp_path: Path) -> None:
    (tmp_path / USER_FILE).write_text(text)
    with pytest.raises(PriceError) as raised:
        PriceBook(tmp_path).table()

    [(named, message)] = raised.value.problems
    assert named.endswith(place)
    assert words in message


def test_price_of_a_model_with_a_slash_in_its_name_is_found() -> None:
    price = Price(
        provider="together", model="meta-llama/Llama-3", input=1.0, output=2.0, as_of="2026-01-31", source="a page"
    )
    table = PriceTable([price])

    for provider, model in (
        ("together", "meta-llama/Llama-3"),
        ("together", "together/meta-llama/Llama-3"),
        (None, "meta-llama/Llama-3"),
    ):
        assert table.find(provider, model) == price
    assert table.find("openai", "meta-llama/Llama-3") is None


@pytest.mark.parametrize(
    ("provider", "model", "is_found"),
    [
        ("together", "meta-llama/Llama-3", True),
        ("together", "together/meta-llama/Llama-3", True),
        (None, "meta-llama/Llama-3", True),
        ("openai", "meta-llama/Llama-3", False),
        (None, "other/Llama-3", False),
    ],
)
def test_pattern_with_a_slash_is_compared_with_the_whole_name(provider: str | None, model: str, is_found: bool) -> None:
    fields = {"provider": "together", "model": "x", "aliases": ["meta-llama/*"], "input": 1.0, "output": 2.0}
    price = Price.model_validate(fields | {"as_of": "2026-01-31", "source": "a page"})

    assert PriceTable([price]).find(provider, model) == (price if is_found else None)


def test_prices_that_are_set_at_once_are_all_stored(tmp_path: Path) -> None:
    names = [f"model-{number}" for number in range(8)]
    begin = threading.Barrier(len(names))

    def set_price(name: str) -> None:
        begin.wait()
        PriceBook(tmp_path).set(FIELDS | {"model": name})

    with ThreadPoolExecutor(len(names)) as pool:
        list(pool.map(set_price, names))

    assert sorted(price.model for price in PriceBook(tmp_path).table().prices if price.is_own) == names

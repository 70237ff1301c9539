"""Validation of flag content: every error names its field."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given

from relab.core.errors import InvalidInputError
from relab.core.json import parse_json
from relab.flags.models import MAX_LISTED, FlagContent, ServiceFlags
from relab.flags.service import read_as
from support.flags.contents import Document, document, documents, rule

SERVICE = ServiceFlags().model_dump(mode="json")


def service_document(value: Any) -> Document:
    return {"value_type": "object", "schema": "service_flags", "variants": {"v": value}, "default_variant": "v"}


@given(documents())
def test_written_content_is_read_back_unchanged(made: Document) -> None:
    read = read_as(FlagContent, parse_json(json.dumps(made).encode()))
    written = read.model_dump(mode="json")

    assert {name: written[name] for name in made if name != "rules"} == {n: v for n, v in made.items() if n != "rules"}
    assert [item["conditions"] for item in written["rules"]] == [item["conditions"] for item in made["rules"]]
    assert read_as(FlagContent, parse_json(json.dumps(written).encode())) == read


@pytest.mark.parametrize(
    ("made", "field"),
    [
        ([], "body"),
        (None, "body"),
        ({}, "value_type"),
        (document(extra=1), "extra"),
        (document(value_type="integer"), "value_type"),
        (document(variants={}), "variants"),
        (document(variants={"on": 1, "off": False}), "variants.on"),
        (document(variants={"on": None, "off": False}), "variants.on"),
        (document(value_type="number", variants={"off": True}), "variants.off"),
        (document(value_type="string", variants={"off": 1}), "variants.off"),
        (document(value_type="object", variants={"off": []}), "variants.off"),
        (document(variants={"a b": True, "off": False}), "variants.a b.[key]"),
        (document(default_variant="none"), "default_variant"),
        (document(default_variant=1), "default_variant"),
        (document(is_enabled="yes"), "is_enabled"),
        (document(salt="a\x01b"), "salt"),
        (document(schema="service_flags"), "schema"),
        (document(schema="other"), "schema"),
        (document(rules={}), "rules"),
        (document(rules=[rule(variant="none")]), "rules.0.serve"),
        (document(rules=[rule("same", variant="on"), rule("same", variant="on")]), "rules"),
        (document(rules=[rule("", variant="on")]), "rules.0.name"),
        (document(rules=[{"name": "r", "serve": {}}]), "rules.0.serve"),
        (document(rules=[{"name": "r", "serve": {"variant": "on", "split": [{"variant": "on", "weight_bp": 10_000}]}}]), "rules.0.serve"),
        (document(rules=[rule(on=5_000, off=4_999)]), "rules.0.serve"),
        (document(rules=[rule(on=5_000, none=5_000)]), "rules.0.serve"),
        (document(rules=[rule(on=-1, off=10_001)]), "rules.0.serve.split.0.weight_bp"),
        (document(rules=[rule(on=0.5, off=9_999.5)]), "rules.0.serve.split.0.weight_bp"),  # type: ignore[arg-type]
        (document(rules=[{"name": "r", "serve": {"split": [{"variant": "on", "weight_bp": 5_000}] * 2}}]), "rules.0.serve"),
        (document(rules=[rule("r", ("a", "matches", ".*"), variant="on")]), "rules.0.conditions.0.op"),
        (document(rules=[rule("r", ("", "eq", 1), variant="on")]), "rules.0.conditions.0.attribute"),
        (document(rules=[rule("r", ("a", "eq", None), variant="on")]), "rules.0.conditions.0"),
        (document(rules=[rule("r", ("a", "eq", [1]), variant="on")]), "rules.0.conditions.0"),
        (document(rules=[rule("r", ("a", "in", "abc"), variant="on")]), "rules.0.conditions.0"),
        (document(rules=[rule("r", ("a", "in", []), variant="on")]), "rules.0.conditions.0"),
        (document(rules=[rule("r", ("a", "in", [{}]), variant="on")]), "rules.0.conditions.0"),
        (document(rules=[rule("r", ("a", "in", ["x"] * (MAX_LISTED + 1)), variant="on")]), "rules.0.conditions.0"),
        (document(rules=[rule("r", ("a", "starts_with", ""), variant="on")]), "rules.0.conditions.0"),
        (document(rules=[rule("r", ("a", "lt", "3"), variant="on")]), "rules.0.conditions.0"),
        (document(rules=[rule("r", ("a", "gt", True), variant="on")]), "rules.0.conditions.0"),
        (document(rules=[rule("r", variant="on")] * 101), "rules"),
    ],
)  # fmt: skip
def test_invalid_content_is_rejected_with_its_field(made: Any, field: str) -> None:
    with pytest.raises(InvalidInputError) as refusal:
        read_as(FlagContent, made)

    assert field in [name for name, _ in refusal.value.problems]
    assert field in str(refusal.value)


def conditions(count: int) -> list[Document]:
    return [{"attribute": "a", "op": "eq", "value": number} for number in range(count)]


@pytest.mark.parametrize(
    ("largest", "of_size"),
    [
        (2_000, lambda size: document(description="x" * size)),
        (100, lambda size: document(salt="x" * size)),
        (100, lambda size: document(variants={"off": False} | {f"v{number}": True for number in range(size - 1)})),
        (100, lambda size: document(rules=[rule(f"r{number}", variant="on") for number in range(size)])),
        (200, lambda size: document(rules=[rule("r" * size, variant="on")])),
        (20, lambda size: document(rules=[{"name": "r", "conditions": conditions(size), "serve": {"variant": "on"}}])),
        (200, lambda size: document(rules=[rule("r", ("a" * size, "eq", 1), variant="on")])),
        (1_000, lambda size: document(rules=[rule("r", ("a", "in", list(range(size))), variant="on")])),
    ],
    ids=["description", "salt", "variants", "rules", "rule name", "conditions", "attribute", "listed values"],
)
def test_content_of_the_largest_size_is_accepted_and_one_more_is_not(
    largest: int, of_size: Callable[[int], Document]
) -> None:
    assert read_as(FlagContent, of_size(largest))
    with pytest.raises(InvalidInputError):
        read_as(FlagContent, of_size(largest + 1))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 10**400])
def test_number_that_is_not_finite_is_rejected(value: float) -> None:
    with pytest.raises(InvalidInputError):
        read_as(FlagContent, {"value_type": "number", "variants": {"v": value}, "default_variant": "v"})


def test_service_document_is_a_valid_flag_value() -> None:
    read = read_as(FlagContent, service_document(SERVICE))

    assert ServiceFlags().updated(read.variants["v"]) == ServiceFlags()


@pytest.mark.parametrize(
    ("value", "field"),
    [
        ({}, "variants.v.control.policy"),
        ({"control": SERVICE["control"]}, "variants.v.routing.enabled"),
        ({**SERVICE, "control": {"policy": "aimd"}}, "variants.v.control.max_concurrency"),
        ({**SERVICE, "control": 3}, "variants.v.control"),
        ({**SERVICE, "other": {}}, "variants.v.other"),
        ({**SERVICE, "control": {**SERVICE["control"], "max_concurrency": 0}}, "variants.v.control.max_concurrency"),
        ({**SERVICE, "routing": {**SERVICE["routing"], "qps": 1}}, "variants.v.routing.qps"),
    ],
)
def test_incomplete_document_is_rejected_with_the_missing_field(value: Any, field: str) -> None:
    with pytest.raises(InvalidInputError) as refusal:
        read_as(FlagContent, service_document(value))

    assert field in [name for name, _ in refusal.value.problems]


def test_report_of_many_errors_is_bounded() -> None:
    with pytest.raises(InvalidInputError) as refusal:
        read_as(FlagContent, document(variants={f"v{number}": 3 for number in range(100)}))

    assert len(refusal.value.problems) == 50
    assert "(50 more)" not in str(refusal.value)
    assert len(str(refusal.value)) < 1_000

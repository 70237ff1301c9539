"""Changes of bindings on the command line: a value is written at its name; malformed changes are rejected."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relab.experiments.config.bindings import changed, parse_bindings, unknown
from relab.experiments.errors import ForkInvalidError

NAMES = st.text(st.characters(categories=["L", "Nd"]), min_size=1, max_size=5)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.text(st.characters(codec="ascii", categories=["L"])),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=5,
)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("a=0.7", 0.7),
        ("a=true", True),
        ("a=null", None),
        ('a={"b": [1]}', {"b": [1]}),
        ("a=gpt-4o", "gpt-4o"),
        ("a=4o", "4o"),
        ('a="4"', "4"),
        ("a=x=y", "x=y"),
        ("a=", ""),
    ],
)
def test_value_is_json_or_else_a_text(text: str, value: Any) -> None:
    assert parse_bindings([text]) == {"a": value}


@given(st.lists(NAMES, min_size=1, max_size=3), VALUES)
def test_value_is_written_at_its_name_and_nothing_else_changes(parts: list[str], value: Any) -> None:
    before = {"kept": 1, "other": {"kept": 2}}
    parts = [f"x{part}" for part in parts]

    after = changed(before, parse_bindings([f"{'.'.join(parts)}={json.dumps(value)}"]))

    inner: Any = after
    for part in parts:
        inner = inner[part]
    assert inner == value
    assert {name: after[name] for name in before} == before
    assert before == {"kept": 1, "other": {"kept": 2}}


def test_inner_values_are_changed_beside_others() -> None:
    before = {"model": {"name": "a", "temperature": 0}}

    assert changed(before, {"model.temperature": 0.7}) == {"model": {"name": "a", "temperature": 0.7}}
    assert unknown(before, {"model.temperature": 1, "model.top_p": 1, "seed": 2}) == ["model.top_p", "seed"]


@pytest.mark.parametrize(
    "texts",
    [["a"], ["=1"], ["a..b=1"], [".a=1"], ["a={"], ['a="x'], ["a=[1"], ["a=NaN"], ["a=-Infinity"], ["a=\x00"], ["a=1", "a=2"], ["a=1", "a.b=2"], ["a.b=2", "a=1"]],
)  # fmt: skip
def test_malformed_change_is_refused(texts: list[str]) -> None:
    with pytest.raises(ForkInvalidError):
        parse_bindings(texts)


def test_change_below_a_value_that_is_no_object_is_refused() -> None:
    with pytest.raises(ForkInvalidError, match="'a' is not an object"):
        changed({"a": 1}, {"a.b": 2})


@pytest.mark.parametrize("text", [f"a={'[' * 150}{']' * 150}", f"{'a.' * 5_000}a=1"], ids=["value", "name"])
def test_change_that_is_nested_too_deep_is_refused(text: str) -> None:
    with pytest.raises(ForkInvalidError, match="nested deeper than 100"):
        changed({}, parse_bindings([text]))

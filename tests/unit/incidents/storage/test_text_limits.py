"""Limits of stored external text and JSON: bounded size, a mark where text is cut, and small values unchanged."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from relab.core.errors import InvalidInputError, MalformedBodyError
from relab.core.json import canonical_json, parse_json
from relab.incidents.storage.text_limits import bounded, bounded_object, clean_text, cut, name_of, require_exact

TEXT = st.text(st.characters(), max_size=300)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXT,
    lambda inner: st.lists(inner, max_size=10) | st.dictionaries(TEXT, inner, max_size=10),
    max_leaves=40,
)
DEEP: Any = "end"
for _ in range(500):
    DEEP = [DEEP, {"x": "y" * 100}]


def is_storable(value: object) -> bool:
    try:
        parse_json(canonical_json(value).encode())
    except (ValueError, MalformedBodyError):
        return False
    return True


@settings(max_examples=40)
@given(JSON)
@example([["x" * 100] * 100] * 100)
@example({"\x00" * 5_000: "\ud800" * 5_000})
@example(["\x01" * 10_000, "ü" * 10_000, "\U0001f600" * 10_000])
@example([10**5_000, -(10**40), math.nan, math.inf])
@example({str(number): {} for number in range(5_000)})
def test_any_value_becomes_bounded_json(value: object) -> None:
    assert_bounded(value)


def test_deep_json_is_bounded() -> None:
    # Not an example of the test above: Hypothesis cannot print a value that is nested so deeply.
    assert_bounded(DEEP)


def assert_bounded(value: object) -> None:
    found = bounded(value, 4_000)

    assert len(canonical_json(found).encode()) <= 4_000
    assert is_storable(found)


@settings(max_examples=40)
@given(JSON)
def test_small_storable_value_is_unchanged(value: object) -> None:
    if is_storable(value):
        assert bounded(value, 10_000_000) == value


def test_cut_keeps_the_beginning_and_counts_the_rest() -> None:
    found = bounded_object({"first": 1, "rows": [[number] for number in range(9_999)], "last": 2}, 4_000)

    assert found["first"] == 1
    assert found["rows"][:2] == [[0], [1]]
    assert found["rows"][-1] == f"… [cut: {9_999 - len(found['rows']) + 1:,} more]"
    assert found["…"] == "[cut: 1 more]"
    assert "last" not in found


def test_long_text_leaves_room_for_later_fields() -> None:
    found = bounded_object({"log": "x" * 9_999, "health": "degraded"}, 4_000)

    assert found["log"].endswith("… [9,999 characters]")
    assert found["health"] == "degraded"


def test_value_that_is_not_json_is_a_type_error() -> None:
    with pytest.raises(TypeError, match="no JSON"):
        bounded({"a": object()}, 4_000)


def test_characters_that_a_database_cannot_store_are_replaced() -> None:
    assert clean_text("a\x00b\ud800c") == "a\ufffdb\ufffdc"
    assert clean_text("\ud83d\ude00") == "\U0001f600"
    assert clean_text("\x1b[2J is data") == "\x1b[2J is data"


@settings(max_examples=40)
@given(TEXT)
def test_a_text_is_cut_to_its_length(text: str) -> None:
    found = cut(text, 100)

    assert len(found) <= 100
    assert found == clean_text(text) if len(text) <= 100 else found.endswith(f"… [{len(text):,} characters]")


@settings(max_examples=40)
@given(st.lists(st.text(st.characters(), max_size=300) | st.text("ab", min_size=198, max_size=203), unique=True))
@example(["", "\x00", "\ufffd", "\ud800", "a" * 200, "a" * 201, "a" * 202])
def test_different_keys_stay_different_when_cut(names: list[str]) -> None:
    found = [name_of(name) for name in names]

    assert len(set(found)) == len(names)
    assert all(1 <= len(name) <= 200 and name == clean_text(name) for name in found)


def test_exact_value_that_cannot_be_stored_is_rejected() -> None:
    require_exact({"worker": 1, "name": "a"}, "parameters", 4_000)
    for value in ({"name": "a\x00"}, {"name": "x" * 5_000}, {"n": math.inf}):
        with pytest.raises(InvalidInputError) as caught:
            require_exact(value, "parameters", 4_000)
        assert caught.value.problems[0][0] == "parameters"

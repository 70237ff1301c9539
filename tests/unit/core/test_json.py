"""JSON: strict parsing, and canonical writing with a digest."""

from __future__ import annotations

import json
import re
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relab.core.errors import MalformedBodyError
from relab.core.json import canonical_json, depth_of, digest, equal_json, parse_json, replace_nul

TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=20)
NUMBERS = st.integers(-(10**25), 10**25) | st.floats(allow_nan=False, allow_infinity=False)
VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXTS,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(TEXTS, inner, max_size=5),
    max_leaves=20,
)


@given(VALUES, st.booleans())
def test_every_valid_value_round_trips(value: Any, escaped: bool) -> None:
    assert parse_json(json.dumps(value, ensure_ascii=escaped).encode()) == value


@given(st.binary(max_size=60))
def test_any_bytes_are_rejected_or_give_a_storable_value(raw: bytes) -> None:
    try:
        value = parse_json(raw)
    except MalformedBodyError:
        return
    assert "\\u0000" not in canonical_json(value)
    assert canonical_json(value).encode().decode() == canonical_json(value)


@pytest.mark.parametrize(
    "raw",
    [b"", b"  ", b"{", b'{"a":1,}', b"{} {}", b"01", b"1.", b"'a'", b'"\t"', b'{a:1}', b"undefined", b"\xef\xbb\xbf{}",
     '{"a": 1}'.encode("utf-16")],
)  # fmt: skip
def test_invalid_json_is_rejected_with_its_place(raw: bytes) -> None:
    with pytest.raises(MalformedBodyError) as caught:
        parse_json(raw)
    assert caught.value.code == "malformed_body"
    assert re.search(r"at line \d+ column \d+", caught.value.message)


@pytest.mark.parametrize("raw", [b'"\xff"', b'{"a": "\xc3"}', b'"\xed\xa0\x80"', b'{"\xfe": 1}'])
def test_bytes_that_are_not_utf_8_are_refused(raw: bytes) -> None:
    with pytest.raises(MalformedBodyError) as caught:
        parse_json(raw)
    assert caught.value.code == "malformed_body"
    assert caught.value.problems == ()


@pytest.mark.parametrize("raw", [b'{"a":1,"a":2}', b'{"a":1,"\\u0061":1}', b'[{"x":{"b":null,"c":1,"b":null}}]'])
def test_a_key_twice_in_one_object_is_refused_by_name(raw: bytes) -> None:
    with pytest.raises(MalformedBodyError, match=r'key "[ab]"'):
        parse_json(raw)


def test_key_may_repeat_in_another_object() -> None:
    assert parse_json(b'[{"a":1},{"a":{"a":2}}]') == [{"a": 1}, {"a": {"a": 2}}]


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (b'{"a": 1, "b": NaN}', "NaN or an infinity at line 1 column 15; write null in its place."),
        (b"[1,\n-Infinity]", "NaN or an infinity at line 2 column 2; write null in its place."),
        (b'\xef\xbb\xbf{"a": 1}', "a byte order mark (BOM) at line 1 column 1; save the text as UTF-8 without one."),
        (b"{'a': NaN}", "key must be a string at line 1 column 2."),
    ],
)
def test_message_names_the_constant_or_the_mark_that_json_lacks(raw: bytes, message: str) -> None:
    with pytest.raises(MalformedBodyError) as caught:
        parse_json(raw, "the output")
    assert str(caught.value) == f"the output is not valid JSON: {message}"


@pytest.mark.parametrize("raw", [b"NaN", b"[NaN]", b"Infinity", b'{"a":-Infinity}', b"nan", b"1e999x"])
def test_invalid_number_is_rejected(raw: bytes) -> None:
    with pytest.raises(MalformedBodyError) as caught:
        parse_json(raw)
    assert caught.value.code == "malformed_body"
    assert caught.value.problems == ()


@pytest.mark.parametrize(
    "raw",
    [b"1e999", b"-1e999", b"1E+999", b"1e0000999", b'{"a":[{"b":1e400}]}', b"[" + b"9" * 250 + b"e99]",
     b"1" + b"0" * 309, b'{"a":-1' + b"0" * 400 + b"}", b"9" * 5_000],
)  # fmt: skip
def test_a_number_beyond_a_double_is_refused(raw: bytes) -> None:
    with pytest.raises(MalformedBodyError, match=r"out of range|beyond the range"):
        parse_json(raw)


@pytest.mark.parametrize("raw", [b"[", b'{"a":"\\u0000"}', b"[1e999]", b"[" + b"9" * 400 + b"]"])
def test_message_names_the_source_of_the_json(raw: bytes) -> None:
    with pytest.raises(MalformedBodyError, match=r"^knobs\.json (is not|holds a) "):
        parse_json(raw, "knobs.json")


@pytest.mark.parametrize(
    ("raw", "value"),
    [
        (b"1e308", 1e308),
        (b"1e-999", 0.0),
        (b"-0.0", -0.0),
        (b"9007199254740993", 9_007_199_254_740_993),
        (b"1" + b"0" * 300, 10**300),
        (b"0." + b"1" * 300, 0.1111111111111111),
        (b'["1e999", "' + b"9" * 400 + b'"]', ["1e999", "9" * 400]),
    ],
)
def test_large_or_precise_number_is_read_as_the_nearest_value(raw: bytes, value: object) -> None:
    assert parse_json(raw) == value


def test_the_largest_double_is_still_read() -> None:
    assert parse_json(repr(sys.float_info.max).encode()) == sys.float_info.max


@pytest.mark.parametrize(
    ("raw", "field"),
    [
        (b'"\\u0000"', "body"),
        (b'{"a":"x\\u0000y"}', "a"),
        (b'{"a":[1,{"b":"\\u0000"}]}', "a.1.b"),
        (b'{"\\u0000":1}', "body"),
        (b'{"a":{"b\\u0000":1}}', "a"),
        (b'{"a\\u0000":{"b":1}}', "body"),
        (b'{"ok":"\\\\u0000","bad":"\\\\\\u0000"}', "bad"),
    ],
)
def test_a_nul_is_refused_with_its_field_also_in_a_key(raw: bytes, field: str) -> None:
    with pytest.raises(MalformedBodyError, match="NUL") as refusal:
        parse_json(raw)
    assert refusal.value.problems[0][0] == field
    assert "\x00" not in str(refusal.value)


def test_six_characters_that_look_like_an_escaped_nul_are_text() -> None:
    assert parse_json(b'{"a":"\\\\u0000","\\\\u0000":1}') == {"a": "\\u0000", "\\u0000": 1}


@pytest.mark.parametrize("raw", [b'"\\ud800"', b'"\\udc00"', b'"\\ud800x"', b'"\\udc00\\ud800"', b'{"\\ud800":1}'])
def test_half_of_a_surrogate_pair_is_refused(raw: bytes) -> None:
    with pytest.raises(MalformedBodyError) as caught:
        parse_json(raw)
    assert caught.value.code == "malformed_body"
    assert caught.value.problems == ()


def test_a_surrogate_pair_is_one_character() -> None:
    assert parse_json(b'"\\ud83d\\ude00"') == "😀"


@pytest.mark.parametrize(("opening", "closing"), [(b"[", b"]"), (b'{"a":', b"}")])
def test_values_nest_200_deep_and_no_deeper(opening: bytes, closing: bytes) -> None:
    parse_json(opening * 200 + b"1" + closing * 200)
    for depth in (201, 100_000):
        with pytest.raises(MalformedBodyError, match="recursion limit"):
            parse_json(opening * depth + b"1" + closing * depth)


@given(VALUES)
def test_canonical_json_is_json_of_the_same_value_in_one_line(value: Any) -> None:
    text = canonical_json(value)
    assert json.loads(text) == value
    assert "\n" not in text
    assert canonical_json(json.loads(text)) == text


@given(st.dictionaries(TEXTS, VALUES, max_size=8), st.randoms())
def test_the_order_of_keys_changes_neither_text_nor_digest(value: dict[str, Any], random: Any) -> None:
    items = list(value.items())
    random.shuffle(items)
    assert canonical_json(dict(items)) == canonical_json(value)
    assert digest(dict(items)) == digest(value)


@given(VALUES, VALUES)
def test_other_text_has_another_digest(one: Any, other: Any) -> None:
    assert (digest(one) == digest(other)) == (canonical_json(one) == canonical_json(other))


def test_digest_names_its_algorithm_and_never_changes() -> None:
    assert digest({"b": [1, 2.5, None], "a": "ü"}) == (
        "sha256:91ff63a7ddb19a1b9c7a2e722d40ba9baba03223f291c89743abfd71bb743cb5"
    )


@pytest.mark.parametrize("value", [float("nan"), float("inf"), [-float("inf")]])
def test_nan_and_infinity_are_not_written(value: object) -> None:
    with pytest.raises(ValueError, match="JSON compliant"):
        canonical_json(value)


@pytest.mark.parametrize(("value", "depth"), [(1, 0), ("[[", 0), ([], 1), ({"a": [1, {}]}, 3), ([[1], 2], 2)])
def test_depth_counts_nested_lists_and_objects(value: object, depth: int) -> None:
    assert depth_of(value) == depth


@pytest.mark.parametrize(
    ("first", "second"), [(1, 1.0), ({"a": [2.0, None]}, {"a": [2, None]}), (True, True), ("1", "1")]
)
def test_equal_json_values(first: Any, second: Any) -> None:
    assert equal_json(first, second)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (1, True),
        (0, False),
        (1, "1"),
        ([1], [True]),
        ({"a": 0}, {"a": False}),
        ([1], [1, 2]),
        ({}, {"a": None}),
        (0, None),
    ],
)
def test_unequal_json_values(first: Any, second: Any) -> None:
    assert not equal_json(first, second)
    assert not equal_json(second, first)


@pytest.mark.parametrize(
    ("raw", "value"),
    [
        (rb'{"a\u0000":"\u0000b\u0000\u0000"}', {"a\ufffd": "\ufffdb\ufffd\ufffd"}),
        # An escaped backslash before the letters of the escape.
        (rb'["\\u0000", "\\\u0000"]', ["\\u0000", "\\\ufffd"]),
        (rb'["\u00001"]', ["\ufffd1"]),
    ],
)
def test_nul_is_replaced(raw: bytes, value: Any) -> None:
    assert parse_json(replace_nul(raw)) == value

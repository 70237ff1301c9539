"""Pagination cursors: keys round-trip, and invalid cursors are rejected."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter

from relab.core.cursor import InvalidCursorError, decode_cursor, encode_cursor
from support.telemetry.runs import examples, texts

RUN_KEY: TypeAdapter[tuple[int, str]] = TypeAdapter(tuple[int, str])


def forge(value: Any) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode()


@given(st.tuples(st.integers(0, 2**63 - 1), texts))
@examples(100)
def test_key_round_trips_through_its_cursor(key: tuple[int, str]) -> None:
    cursor = encode_cursor(key)

    assert decode_cursor(cursor, RUN_KEY) == key
    assert cursor.replace("-", "").replace("_", "").isalnum(), "a cursor needs no escaping in a URL"


@pytest.mark.parametrize(
    "cursor",
    [
        "",
        "a",
        "not-a-cursor",
        "ü",
        "%00",
        forge(5),
        forge("ab"),
        forge({"a": 1, "b": 2}),
        forge([1]),
        forge([1, "a", 2]),
        forge(["1", "a"]),
        forge([1.0, "a"]),
        forge([True, "a"]),
        forge([1, None]),
        forge([1, "\x00"]),
        base64.urlsafe_b64encode(b"\xff\xfe").decode(),
        base64.urlsafe_b64encode(b"[" * 5_000).decode(),
    ],
)
def test_invalid_cursor_is_rejected(cursor: str) -> None:
    with pytest.raises(InvalidCursorError) as caught:
        decode_cursor(cursor, RUN_KEY)

    assert caught.value.problems[0][0] == "cursor"

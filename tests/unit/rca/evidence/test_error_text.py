"""The reader of error texts: blanks echoed content, finds status codes and error classes, and bounds its work."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relab.rca.detectors.phrases import Phrases, phrase
from relab.rca.evidence.error_text import (
    HEAD_CHARS,
    TAIL_CHARS,
    ErrorReader,
    read_error,
    without_variables,
)
from relab.telemetry.outcome import is_error_in_result
from support.telemetry.runs import examples


@pytest.mark.parametrize(
    "text",
    [
        "GET https://x.test/SECRET/403 failed",
        "Error when executing tool t with arguments {'a': {'b': 'SECRET'}, 'c': 1}: KeyError: 'z'",
        "No results found for query: 'SECRET it's'. Retry.",
        "validation error input_value='SECRET', input_type=str",
        'Could not open file "SECRET".',
        'Traceback (most recent call last):\n  File "a.py", line 3\n    raise SECRET\nKeyError: 3',
    ],
)
def test_echoed_content_is_blanked(text: str) -> None:
    masked = read_error(text).masked
    assert "SECRET" not in masked
    assert len(masked) == len(text)


def test_message_of_the_error_is_kept() -> None:
    text = "Error code: 429 - {'error': {'message': 'Rate limit reached', 'type': 'tokens'}}"
    assert read_error(text).masked == text


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("HTTP 403", 403),
        ("HTTP/1.1 502 Bad Gateway", 502),
        ("status code: 429", 429),
        ("status_code=504", 504),
        ("Error code: 401 - {...}", 401),
        ("Client error '404 Not Found'", 404),
        ("503 Service Unavailable", 503),
        ("exit code 403", None),
        ("order 429 is late", None),
        ("about 4000 rows", None),
    ],
)
def test_status_codes_are_found_in_text(text: str, code: int | None) -> None:
    assert read_error(text).status_code == code


def test_error_classes_are_found_in_text() -> None:
    text = "AgentError: tool failed: builtins.TypeError: bad\nhttpx.ReadTimeout"
    assert [name for name, _ in read_error(text).classes] == ["AgentError", "TypeError", "ReadTimeout"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Error: no seats", True),
        ("  ERROR: x", True),
        ('{"error": "x"}', True),
        ('{"status": "error", "message": "x"}', True),
        ("Traceback (most recent call last):\n", True),
        ("exitcode: 1 (execution failed)", True),
        ("exitcode: 0 (execution succeeded)", False),
        ('{"error": null, "items": [1]}', False),
        ('{"errors": []}', False),
        ("Errors are common. Error: see below", False),
        ("", False),
    ],
)
def test_result_that_is_an_error_is_recognised(text: str, expected: bool) -> None:
    assert is_error_in_result(text) is expected


def test_reader_reads_each_wording_once() -> None:
    reader = ErrorReader()
    first = reader.read("order 1234 not found at 9f8e7d6c-1111-2222")
    assert reader.read("order 9876 not found at 0a1b2c3d-4444-5555") is first
    assert reader.read("order 9876 not found at last") is not first
    assert reader.read("HTTP 404") is not reader.read("HTTP 403")


def test_reader_stops_at_its_limit() -> None:
    reader = ErrorReader(max_chars=10)
    known = reader.read("timed out soon")
    assert reader.read("timed out late").masked == ""
    assert reader.read("timed out soon") is known


@given(text=st.text(alphabet=st.sampled_from("a1 '\"{}:é\n/for query args="), max_size=200))
@examples(300)
def test_positions_survive_preparation(text: str) -> None:
    assert len(without_variables(text)) == len(text)
    assert len(read_error(text).masked) == len(text)


@given(before=st.integers(0, 9_000), after=st.integers(0, 9_000))
@examples(100)
def test_match_has_its_position_in_the_original_text(before: int, after: int) -> None:
    text = "a" * before + "NEEDLE" + "b" * after
    found = Phrases((phrase(None, "needle", "needle"),)).find(read_error(text))
    if before + 6 <= HEAD_CHARS or after + 6 <= TAIL_CHARS or len(text) <= HEAD_CHARS + TAIL_CHARS:
        assert found is not None
    if found is not None:
        assert text[found.where.start : found.where.end] == "NEEDLE"

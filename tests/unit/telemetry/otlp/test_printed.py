"""The parser of values printed by Python: executes nothing, and returns None for any other text."""

from __future__ import annotations

import ast
import gc
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relab.telemetry.otlp.printed import MAX_CHARS, read_printed


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("{'a': [1, 2.5, None, True, -3], 'b': ('x',)}", {"a": [1, 2.5, None, True, -3], "b": ["x"]}),
        ("ChatMessage(_role=<ChatRole.TOOL: 'tool'>, _meta={})", {"_role": "tool", "_meta": {}}),
        ("Tool(name='lookup', function=<function lookup at 0x7f9fb9013880>)", {"name": "lookup", "function": None}),
        ('Result(text="it\'s", code=<Code.BAD: 400>)', {"text": "it's", "code": 400}),
        ("'plain'", "plain"),
    ],
)
def test_printed_value_is_read(text: str, value: Any) -> None:
    assert read_printed(text) == value


@pytest.mark.parametrize(
    "text",
    ["", "ChatMessage(_role=", "not a value!", "\0", "(" * 10_000, "[" * 60 + "]" * 60, "'" + "x" * MAX_CHARS + "'"],
    ids=["empty", "cut", "prose", "nul", "open", "deep", "long"],
)
def test_text_that_is_not_a_printed_value_gives_none(text: str) -> None:
    assert read_printed(text) is None


def test_nothing_is_executed() -> None:
    assert read_printed("__import__('os').system('exit 1')") == {}
    assert read_printed("[name for name in (1, 2)]") is None
    assert read_printed("2 ** 9999999") is None


_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.text(alphabet=st.characters(exclude_characters="<>", exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(alphabet="abc"), inner, max_size=4),
    max_leaves=12,
)


@given(_VALUES)
def test_printed_value_equals_the_original(value: Any) -> None:
    assert read_printed(repr(value)) == value


def test_lone_surrogate_becomes_a_question_mark() -> None:
    assert read_printed(repr({"text": "a\ud800b"})) == {"text": "a?b"}


@given(st.text())
def test_any_text_is_parsed_without_an_exception(text: str) -> None:
    assert isinstance(read_printed(text), (type(None), bool, int, float, str, list, dict))


class _ParsesWhenCollected:
    """Garbage that parses source code when it is collected, as the log record of a traceback does."""

    def __init__(self) -> None:
        self.cycle = self

    def __del__(self) -> None:
        ast.parse("f(x, [1, [2]])")


def test_value_is_read_while_garbage_is_collected() -> None:
    thresholds = gc.get_threshold()
    gc.collect()
    try:
        _ParsesWhenCollected()
        gc.set_threshold(30)
        value = read_printed("[" * 30 + "1" + "]" * 30)
    finally:
        gc.set_threshold(*thresholds)

    for _ in range(30):
        assert len(value) == 1
        value = value[0]
    assert value == 1


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("{'rest': ...}", {"rest": None}),
        (r"T(raw=b'\xff', size=1j)", {"raw": "\ufffd", "size": None}),
        ("[1e999, -1e999]", ["inf", None]),
        (r"'a\ud800'", "a?"),
        ("{b'k': 1}", {"k": 1}),
    ],
)
def test_constants_that_json_does_not_have_are_converted(text: str, value: Any) -> None:
    assert read_printed(text) == value

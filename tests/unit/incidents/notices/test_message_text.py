"""Escaping external text for messages: it makes no mention and no link, and its length is bounded."""

from __future__ import annotations

import html

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relab.incidents.notices.message_text import escaped, for_slack, harmless, one_line


@pytest.mark.parametrize(
    ("hostile", "shown"),
    [
        ("<!channel> <@U123>", "&lt;!channel&gt; &lt;@\u2060U123&gt;"),
        ("@here @channel @everyone a@b", "@\u2060here @\u2060channel @\u2060everyone a@\u2060b"),
        (
            "see https://evil.example/x and www.evil.example",
            "see https\u2060://evil.example/x and www\u2060.evil.example",
        ),
        ("<https://evil.example|approve>", "&lt;https\u2060://evil.example|approve&gt;"),
        ("mailto:a and MAILTO:b", "mailto\u2060:a and MAILTO\u2060:b"),
        ("AT&T &amp; &lt;", "AT&amp;T &amp;amp; &amp;lt;"),
        ("one\n*two*\r\n\x1b[31mthree\x00\u202eruof\u2028five", "one *two* [31mthree ruof five"),
        ("a \ud800 half", "a half"),
    ],
)
def test_external_text_makes_no_mention_link_or_line_break(hostile: str, shown: str) -> None:
    found = for_slack(hostile, 200)

    # A word joiner (U+2060) breaks each address and each mention.
    assert found == shown
    for sign in ("@here", "@channel", "@U123", "s://", "www.", "mailto:", "<", "\n"):
        assert sign not in found.lower()


def test_long_text_is_cut_with_a_mark() -> None:
    assert one_line("x" * 50, 50) == "x" * 50
    assert one_line("x" * 51, 50) == "x" * 49 + "…"
    assert one_line("x" * 10_000_000, 50) == "x" * 49 + "…"
    assert one_line("  a \t b ", 50) == "a b"


def test_text_is_not_cut_within_an_escape() -> None:
    assert escaped("<" * 10, 40) == "&lt;" * 10
    assert escaped("<" * 11, 40) == "&lt;" * 9 + "…"


def utf16(text: str) -> int:
    return len(text.encode("utf-16-le", "surrogatepass")) // 2


@given(st.text(), st.integers(min_value=1, max_value=80))
def test_texts_are_one_line_of_bounded_size(text: str, most: int) -> None:
    line = one_line(text, most)
    assert utf16(line) <= most
    assert line == one_line(line, most)
    assert not {"\n", "\r", "\x00", "\u2028"} & set(line)

    found = for_slack(text, most)
    assert utf16(found) <= most
    assert not {"<", ">"} & set(found)
    assert html.unescape(found).rstrip("…")[: most // 8] in harmless(text, most)
    assert utf16(harmless(text, most)) <= most

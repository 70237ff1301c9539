"""Make texts from outside safe for messages: one line, of bounded size, without markup, links or mentions. Pure."""

from __future__ import annotations

import re
import unicodedata
from typing import Final

_JOINER: Final = "\u2060"
"""WORD JOINER: has no width, and breaks up addresses and mentions."""
_CALLING: Final = re.compile(r"@(?=\S)")
_LINKING: Final = re.compile(r":(?=//)|(?<=\bwww)\.|(?<=\bmailto):", re.IGNORECASE)
_ODD: Final = frozenset(("Cc", "Cf", "Cs", "Co", "Zl", "Zp"))
"""Unicode categories that are replaced: controls, direction marks, surrogates, private use, line separators."""
_ESCAPES: Final = {"&": "&amp;", "<": "&lt;", ">": "&gt;"}
_MARK: Final = "…"


def one_line(text: str, most: int) -> str:
    """Return a text as one line of at most `most` UTF-16 code units; a longer one is cut and ends with an ellipsis."""
    # Read only the beginning: a log line may have megabytes.
    seen = "".join(" " if unicodedata.category(char) in _ODD else char for char in text[: 4 * most])
    return _cut(" ".join(seen.split()), most, dict[str, str](), is_whole=len(text) <= 4 * most)


def harmless(text: str, most: int) -> str:
    """Return a text as one line, changed so that a receiver shows no part of it as a mention or a link.

    `most` is the maximum length in UTF-16 code units.
    """
    line = one_line(text, most)
    tamed = _LINKING.sub(lambda found: _JOINER + found[0], _CALLING.sub(f"@{_JOINER}", line))
    return _cut(tamed, most, dict[str, str](), is_whole=True)


def for_slack(text: str, most: int) -> str:
    """Return a text as one line without mentions and links, with the characters of Slack's markup escaped.

    `most` is the maximum length in UTF-16 code units. https://docs.slack.dev/messaging/formatting-message-text#escaping
    """
    return escaped(harmless(text, most), most)


def escaped(text: str, most: int) -> str:
    """Return a text escaped for Slack, cut to at most `most` UTF-16 code units but never within an escape sequence."""
    return _cut(text, most, _ESCAPES, is_whole=True)


def _cut(text: str, most: int, escapes: dict[str, str], *, is_whole: bool) -> str:
    sizes = [length(escapes.get(char, char)) for char in text]
    if is_whole and sum(sizes) <= most:
        return "".join(escapes.get(char, char) for char in text)
    kept, room = [], most - length(_MARK)
    for char, size in zip(text, sizes, strict=True):
        room -= size
        if room < 0:
            break
        kept.append(escapes.get(char, char))
    return "".join(kept) + _MARK


def length(text: str) -> int:
    """Return the length of a text in UTF-16 code units, the unit in which Slack and PagerDuty limit lengths."""
    return len(text.encode("utf-16-le")) // 2

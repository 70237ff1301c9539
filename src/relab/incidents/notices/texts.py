"""Words from outside in messages: one line, of bounded size, without any power over whoever shows them. Pure."""

from __future__ import annotations

import re
import unicodedata
from typing import Final

_JOINER: Final = "\u2060"
"""Takes no room, and is no part of an address or a name."""
_CALLING: Final = re.compile(r"@(?=\S)")
_LINKING: Final = re.compile(r":(?=//)|(?<=\bwww)\.|(?<=\bmailto):", re.IGNORECASE)
_ODD: Final = frozenset(("Cc", "Cf", "Cs", "Co", "Zl", "Zp"))
"""Categories of Unicode: controls, what changes the direction of a text, halves of characters, ends of lines."""
_ESCAPES: Final = {"&": "&amp;", "<": "&lt;", ">": "&gt;"}
_MARK: Final = "…"


def one_line(text: str, most: int) -> str:
    """Return a text as one line of at most `most` characters as UTF-16 counts them; one that was longer ends with a mark."""
    # Far more than is kept need not be looked at: a log line may have megabytes.
    seen = "".join(" " if unicodedata.category(char) in _ODD else char for char in text[: 4 * most])
    return _cut(" ".join(seen.split()), most, dict[str, str](), is_whole=len(text) <= 4 * most)


def harmless(text: str, most: int) -> str:
    """Return one line that calls nobody and is no link, also for receivers that make links of addresses by themselves."""
    line = one_line(text, most)
    tamed = _LINKING.sub(lambda found: _JOINER + found[0], _CALLING.sub(f"@{_JOINER}", line))
    return _cut(tamed, most, dict[str, str](), is_whole=True)


def for_slack(text: str, most: int) -> str:
    """Return one harmless line with the characters escaped that Slack's markup is made of.

    https://docs.slack.dev/messaging/formatting-message-text#escaping
    """
    return escaped(harmless(text, most), most)


def escaped(text: str, most: int) -> str:
    """Return a text escaped for Slack, of at most `most` characters; it is cut between characters, never within an escape."""
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
    """Return how long a text is as UTF-16 counts it, which is how Slack and PagerDuty count."""
    return len(text.encode("utf-16-le")) // 2

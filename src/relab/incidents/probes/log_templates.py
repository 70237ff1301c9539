"""Turn log lines into templates: mask the variable parts, so that lines of one kind can be counted. Pure.

The same line has the same template in every process and after every restart. The library drain3 is not used: the
templates that it learns depend on the order of the lines. Its last release is of 2022 and pins an old `cachetools`.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any, Final

MAX_TEMPLATES: Final = 200
OTHERS: Final = "(others)"
"""The template that counts all further lines when there are `MAX_TEMPLATES` templates.

A log of random words must not fill the memory.
"""
_MAX_LETTERS: Final = 400
_MAX_TEMPLATE_LENGTH: Final = 160

_MASKS: Final = (
    (re.compile(r"\"[^\"]{0,200}\"|'[^']{0,200}'"), "<text>"),
    (re.compile(r"\b[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}\b"), "<id>"),
    (re.compile(r"(?<![\w.])(?:/[\w.@%+-]+){2,}"), "<path>"),
    (re.compile(r"\b\d{1,3}(?:\.\d{1,3}){3}(?::\d+)?\b"), "<address>"),
    (re.compile(r"\b0x[0-9a-fA-F]+\b|\b(?=[0-9a-f]*\d)(?=[0-9a-f]*[a-f])[0-9a-f]{8,}\b"), "<hex>"),
    (re.compile(r"\d+(?:[.,:]\d+)*"), "<n>"),
    (re.compile(r"\s+"), " "),
)
"""Patterns and their replacements, in order: longer patterns first, so that their parts are masked with them."""


def template_of(message: str) -> str:
    """Return the template of a log message: the message with its variable parts masked, as one line.

    The template has at most 160 characters.
    """
    text = message[:_MAX_LETTERS]
    for pattern, mask in _MASKS:
        text = pattern.sub(mask, text)
    return text.strip()[:_MAX_TEMPLATE_LENGTH]


def count_templates(lines: Iterable[Any]) -> dict[str, int]:
    """Count log lines by template (the message with its variable parts, such as numbers and ids, masked).

    Args:
        lines: JSON objects with `event` and `message`, or texts; other items are ignored.

    Returns:
        `{template: number of lines}`. The template of an object begins with its `event`. After `MAX_TEMPLATES`
            templates, further templates are counted together under the key `OTHERS`.
    """
    counts: Counter[str] = Counter()
    for line in lines:
        if isinstance(line, Mapping):
            event, message = line.get("event"), line.get("message")
            head = f"{event[:60]}: " if isinstance(event, str) and event else ""
            text = f"{head}{template_of(message)}" if isinstance(message, str) else head
        else:
            text = template_of(line) if isinstance(line, str) else ""
        if text:
            counts[text if text in counts or len(counts) < MAX_TEMPLATES else OTHERS] += 1
    return dict(counts)

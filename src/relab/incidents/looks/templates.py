"""Log lines as templates: what varies from line to line is masked, so that lines of one kind can be counted. Pure.

By hand, and not with drain3: its last release is of 2022 and pins `cachetools` to a version of 2021, its fork is one
person's, and the clusters that it learns depend on the order of the lines. The lines that are read here have an event's name,
so that masks are enough, and the same line has the same template in every process and after every restart.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any, Final

MOST_TEMPLATES: Final = 200
OTHERS: Final = "(others)"
"""In the place of whatever comes when there are so many templates: a log of random words must not fill the memory."""
_MOST_LETTERS: Final = 400
_KEPT_LETTERS: Final = 160

_MASKS: Final = (
    (re.compile(r"\"[^\"]{0,200}\"|'[^']{0,200}'"), "<text>"),
    (re.compile(r"\b[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}\b"), "<id>"),
    (re.compile(r"(?<![\w.])(?:/[\w.@%+-]+){2,}"), "<path>"),
    (re.compile(r"\b\d{1,3}(?:\.\d{1,3}){3}(?::\d+)?\b"), "<address>"),
    (re.compile(r"\b0x[0-9a-fA-F]+\b|\b(?=[0-9a-f]*\d)(?=[0-9a-f]*[a-f])[0-9a-f]{8,}\b"), "<hex>"),
    (re.compile(r"\d+(?:[.,:]\d+)*"), "<n>"),
    (re.compile(r"\s+"), " "),
)
"""In this order: what is inside of a longer thing is masked with it."""


def template_of(message: str) -> str:
    """Return a message with all that varies masked, on one line and cut."""
    text = message[:_MOST_LETTERS]
    for pattern, mask in _MASKS:
        text = pattern.sub(mask, text)
    return text.strip()[:_KEPT_LETTERS]


def count_templates(lines: Iterable[Any]) -> dict[str, int]:
    """Return how many lines there are of each template, with the event's name before it; what is no line is left out."""
    counts: Counter[str] = Counter()
    for line in lines:
        if isinstance(line, Mapping):
            event, message = line.get("event"), line.get("message")
            head = f"{event[:60]}: " if isinstance(event, str) and event else ""
            text = f"{head}{template_of(message)}" if isinstance(message, str) else head
        else:
            text = template_of(line) if isinstance(line, str) else ""
        if text:
            counts[text if text in counts or len(counts) < MOST_TEMPLATES else OTHERS] += 1
    return dict(counts)

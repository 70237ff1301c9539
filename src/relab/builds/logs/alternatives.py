"""Match a text against many patterns in one pass."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

REMEMBERED_LINES: Final = 1_000
"""A third of the lines of a usual log repeat one of the last thousand lines, so results for these are worth keeping."""


class Alternatives:
    """Finds the first of several patterns that matches at the start of a text.

    Args:
        patterns: the patterns, in the order in which they are tried. They must not have groups with the same name.
    """

    def __init__(self, patterns: Iterable[str]) -> None:
        # An empty group after each pattern says which one matched. A group around the pattern would hide its first
        # character, by which `re` rejects most alternatives at once.
        self._joined = re.compile("|".join(f"(?:{each})(?P<r{number}>)" for number, each in enumerate(patterns)))

    def first(self, text: str) -> int | None:
        """Return the index of the first pattern that matches at the start of `text`; None if no pattern matches."""
        found = self._joined.match(text)
        return None if found is None or found.lastgroup is None else int(found.lastgroup[1:])

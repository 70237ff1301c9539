"""Read lists of failed tests from a log, such as Mocha's, where a name takes several lines."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from relab.builds.logs.formats import FORMATS
from relab.builds.logs.formats.descriptor import FailedListRule
from relab.builds.logs.models import BuildLine

MAX_LISTED: Final = 20_000
_MAX_NAME_LINES: Final = 20
_RULES: Final = tuple((number, rule) for number, each in enumerate(FORMATS) for rule in each.failed_lists)
_OPENS: Final = re.compile("|".join(rule.opens.pattern for _, rule in _RULES))


@dataclass(frozen=True, slots=True)
class ListedTest:
    """A failed test in a list.

    Attributes:
        format_number: the position in `FORMATS` of the tool that wrote the list.
        name: the name of the test.
        line: the number of the line with the name, or with its beginning.
        is_fallback: whether the list counts only if the tool reports no failed test elsewhere in the log.
    """

    format_number: int
    name: str
    line: int
    is_fallback: bool


class FailedTestLists:
    """Reads lists of failed tests. Each line of the log, also each blank one, must be given to `read` in order."""

    def __init__(self) -> None:
        self._open: tuple[int, FailedListRule] | None = None
        self._parts: list[str] = []
        self._first_line = 0
        self._found: list[ListedTest] = []

    def __iter__(self) -> Iterator[ListedTest]:
        """Return an iterator over the tests that were read, in the order of the log; at most `MAX_LISTED`."""
        return iter(self._found)

    def read(self, line: BuildLine) -> None:
        """Read one line."""
        if _OPENS.match(line.text):
            self._open = next(each for each in _RULES if each[1].opens.match(line.text))
            self._parts.clear()
        elif self._open is None:
            return
        elif self._open[1].closes.match(line.text):
            self._open = None
            return
        number, rule = self._open
        item = rule.item.match(line.text)
        if item is not None:
            self._parts = [item["name"]]
            self._first_line = line.number
        elif self._parts and rule.continues is not None:
            further = rule.continues.match(line.text)
            self._parts = (
                [] if further is None or len(self._parts) >= _MAX_NAME_LINES else [*self._parts, further["name"]]
            )
        if self._parts and (rule.continues is None or self._parts[-1].endswith(":")):
            name = " ".join(self._parts)
            self._parts = []
            if len(self._found) < MAX_LISTED:
                name = name if rule.continues is None else name.removesuffix(":")
                self._found.append(ListedTest(number, name, self._first_line, rule.is_fallback))

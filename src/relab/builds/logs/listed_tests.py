"""Read lists of failed tests from a log. The name of a test in a list may take several lines, as in Mocha's lists."""

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


@dataclass(slots=True)
class _OpenList:
    format_number: int
    rule: FailedListRule
    parts: list[str]
    first_line: int = 0


class FailedTestLists:
    """Reads lists of failed tests. The caller calls `read` once for each line of the log, in order, even if it is blank."""

    def __init__(self) -> None:
        self._open: dict[str, _OpenList] = {}
        self._found: list[ListedTest] = []

    def __iter__(self) -> Iterator[ListedTest]:
        """Return an iterator over the tests that were read, in the order of the log; at most `MAX_LISTED`."""
        return iter(self._found)

    def read(self, line: BuildLine) -> None:
        """Read one line. Each worker (parallel process) that writes the log has its own lists."""
        if _OPENS.match(line.text):
            number, rule = next(each for each in _RULES if each[1].opens.match(line.text))
            opened = self._open[line.worker] = _OpenList(number, rule, [])
        else:
            found = self._open.get(line.worker)
            if found is None:
                return
            if found.rule.closes.match(line.text):
                del self._open[line.worker]
                return
            opened, rule = found, found.rule
        item = rule.item.match(line.text)
        if item is not None:
            opened.parts = [item["name"]]
            opened.first_line = line.number
        elif opened.parts and rule.continues is not None:
            further = rule.continues.match(line.text)
            is_too_long = len(opened.parts) >= _MAX_NAME_LINES
            opened.parts = [] if further is None or is_too_long else [*opened.parts, further["name"]]
        if opened.parts and (rule.continues is None or opened.parts[-1].endswith(":")):
            name = " ".join(opened.parts)
            opened.parts = []
            if len(self._found) < MAX_LISTED:
                name = name if rule.continues is None else name.removesuffix(":")
                self._found.append(ListedTest(opened.format_number, name, opened.first_line, rule.is_fallback))

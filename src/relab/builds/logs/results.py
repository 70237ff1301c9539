"""Read from a log how its build ended, and how long it took."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from relab.builds.logs.alternatives import REMEMBERED_LINES, Alternatives
from relab.builds.logs.formats import FORMATS, ResultRule
from relab.builds.logs.models import BuildLine
from relab.builds.logs.steps import STEP_STARTS
from relab.builds.models import BuildStatus

_RULES: Final = tuple(
    # A rule that needs an earlier line has precedence over the other rules.
    sorted(((each.name, rule) for each in FORMATS for rule in each.results), key=lambda each: each[1].follows is None)
)
_CONTEXT: Final = tuple(
    {each for _, rule in _RULES for each in (rule.follows, rule.broken_by, rule.between) if each is not None}
)
"""The patterns of lines on which it depends whether a later result counts."""
_LINES: Final = Alternatives(
    (*(rule.line.pattern.replace("?P<duration>", "?:") for _, rule in _RULES), *(each.pattern for each in _CONTEXT))
)
"""The patterns of `_RULES` in their order, then those of `_CONTEXT`."""
_GOES_ON: Final = re.compile(
    rf"{STEP_STARTS.pattern}|\+ \S|g?make(?:\[\d+\])?: \[.{{1,300}}\] Error \d{{1,10}} \(ignored\)$"
)
"""The next step or command of the build, also in a trace of the shell, or a failure that make ignored."""
_PART: Final = re.compile(r"(\d{1,9}(?:\.\d{1,9})?) ?(ms|s|m(?:in)?|h)\b")
_CLOCK: Final = re.compile(r"(\d{1,6}(?::\d\d){1,2})(?:\.\d{1,9})? ?(min|h)")
_SECONDS_OF_UNIT: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3_600.0}


@dataclass(frozen=True, slots=True)
class LogResult:
    """How a build ended, as its log reports it.

    Attributes:
        status: `success`, `failed`, `interrupted`, or `unknown` if no line reports a result.
        duration_s: the last duration that a tool reports in the log, in seconds; None if the log reports no duration.
        format_name: the name of the tool whose line reports the status; None if no line reports it.
    """

    status: BuildStatus
    duration_s: float | None = None
    format_name: str | None = None


def log_result(lines: Iterable[BuildLine], *, is_whole: bool = True) -> LogResult:
    """Return how the build that wrote these lines ended, and how long it took.

    The last line about the end of the whole job decides. Without such a line, the last result of a single tool decides.

    Args:
        lines: the lines of the log.
        is_whole: whether the lines are the whole log. If False, weak evidence (`ResultRule.is_default`) is ignored,
            because the missing lines may report a failure.
    """
    reader = _Reader(is_whole)
    for position, line in enumerate(lines):
        reader.read(position, line.text)
    return reader.result()


class _Reader:
    def __init__(self, is_whole: bool) -> None:
        self._is_whole = is_whole
        self._first = lru_cache(maxsize=REMEMBERED_LINES)(_LINES.first)
        self._final: tuple[BuildStatus, str] | None = None
        self._of_tool: tuple[BuildStatus, str] | None = None
        self._duration_s: float | None = None
        self._is_certain = False
        self._is_decided = False
        self._is_tolerated = False
        self._decided_at = 0
        self._seen: dict[re.Pattern[str], int] = {}

    def read(self, position: int, text: str) -> None:
        """Read the next line; `position` is its index in the log, from 0."""
        if self._is_decided and _GOES_ON.match(text):
            self._is_decided, self._is_tolerated = False, True
        first = self._first(text)
        if first is None:
            return
        found = self._rule_of(position, text, first)
        if found is not None:
            self._apply(position, text, *found)
        self._seen |= {pattern: position for pattern in _CONTEXT if pattern.match(text)}

    def result(self) -> LogResult:
        """Return the result that the lines read so far report."""
        status, format_name = self._final or self._of_tool or (BuildStatus.UNKNOWN, None)
        return LogResult(status, self._duration_s, format_name)

    def _rule_of(self, position: int, text: str, first: int) -> tuple[str, ResultRule] | None:
        """Return `(name of the tool, rule)` of the rule that recognises a line; None if no rule does.

        Args:
            position: the index of the line in the log, from 0.
            text: the text of the line.
            first: the index of the first pattern of `_LINES` that matches the line.
        """
        if first >= len(_RULES):
            return None
        name, rule = _RULES[first]
        if rule.follows is None or self._is_in_context(position, rule, rule.follows):
            return name, rule
        return next((each for each in _RULES if each[1].follows is None and each[1].line.match(text)), None)

    def _is_in_context(self, position: int, rule: ResultRule, follows: re.Pattern[str]) -> bool:
        """Return whether the line that a rule needs (`follows`) was shortly before the line at `position`."""
        before = self._seen.get(follows, -1)
        broken = -1 if rule.broken_by is None else self._seen.get(rule.broken_by, -1)
        return before > broken and position - before <= rule.within

    def _apply(self, position: int, text: str, name: str, rule: ResultRule) -> None:
        duration = rule.line.match(text)
        if duration is not None and duration.groupdict().get("duration"):
            self._duration_s = seconds(duration["duration"])
        if rule.status is None or (rule.is_default and (self._is_certain or not self._is_whole)):
            return
        if self._yields(name, rule) or (rule.only_after is not None and self._of_tool != (rule.only_after, name)):
            return
        if rule.is_final:
            self._final = None if rule.status is BuildStatus.UNKNOWN else (rule.status, name)
            self._is_certain |= not rule.is_default
        elif rule.is_outer or not self._is_decided:
            self._of_tool, self._decided_at = (rule.status, name), position
            self._is_decided, self._is_tolerated = rule.is_lasting, False

    def _yields(self, name: str, rule: ResultRule) -> bool:
        """Return whether `rule` is ignored, because the last result is one of its `yields_to`.

        That result must be from the same tool, `name`, and from the same run of it (`ResultRule.between`). A result
        that the build tolerated does not count.
        """
        if self._of_tool is None or self._is_tolerated:
            return False
        is_of_same_run = rule.between is None or self._seen.get(rule.between, -1) >= self._decided_at
        return self._of_tool[1] == name and self._of_tool[0] in rule.yields_to and is_of_same_run


def seconds(text: str) -> float | None:
    """Return a duration such as `1m 3s`, `12.5 s`, `01:23 min` or `1:02:03 h` in seconds; None for any other text."""
    clock = _CLOCK.match(text)
    if clock:
        total = 0.0
        for part in clock[1].split(":"):
            total = total * 60 + int(part)
        # Maven writes minutes as `01:23 min`, and hours as `1:02 h` (hours and minutes).
        is_in_minutes = clock[2] == "h" and clock[1].count(":") == 1
        return total * 60 if is_in_minutes else total
    parts = _PART.findall(text)
    return sum(float(number) * _SECONDS_OF_UNIT[unit] for number, unit in parts) if parts else None

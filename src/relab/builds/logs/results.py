"""Read from a log how its build ended, and how long it took."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from relab.builds.logs.formats import FORMATS
from relab.builds.logs.models import BuildLine
from relab.builds.logs.steps import STEP_STARTS
from relab.builds.models import BuildStatus

_RULES: Final = tuple((each.name, rule) for each in FORMATS for rule in each.results)
_PATTERNS: Final = tuple(rule.line.pattern.replace("?P<duration>", "?:") for _, rule in _RULES)
_LINES: Final = re.compile("|".join(f"(?P<r{number}>{pattern})" for number, pattern in enumerate(_PATTERNS)))
_ANY_LINE: Final = re.compile("|".join(f"(?:{pattern})" for pattern in _PATTERNS))
"""The same patterns. Few lines match, and without named groups, `re` rejects the others four times faster."""
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
        is_whole: whether the lines are the whole log. If false, the absence of failures does not count as a success.
    """
    final: tuple[BuildStatus, str] | None = None
    of_tool: tuple[BuildStatus, str] | None = None
    duration_s = None
    is_certain = is_decided = is_tolerated = False
    for line in lines:
        if is_decided and _GOES_ON.match(line.text):
            is_decided, is_tolerated = False, True
        found = _LINES.match(line.text) if _ANY_LINE.match(line.text) else None
        if found is None or found.lastgroup is None:
            continue
        name, rule = _RULES[int(found.lastgroup[1:])]
        duration = rule.line.match(line.text)
        if duration is not None and duration.groupdict().get("duration"):
            duration_s = seconds(duration["duration"])
        if rule.status is None or (rule.is_default and (is_certain or not is_whole)):
            continue
        if of_tool is not None and of_tool[1] == name and of_tool[0] in rule.yields_to and not is_tolerated:
            continue
        if rule.only_after is not None and of_tool != (rule.only_after, name):
            continue
        if rule.is_final:
            final = None if rule.status is BuildStatus.UNKNOWN else (rule.status, name)
            is_certain |= not rule.is_default
        elif rule.is_outer or not is_decided:
            of_tool = rule.status, name
            is_decided, is_tolerated = rule.is_lasting, False
    status, format_name = final or of_tool or (BuildStatus.UNKNOWN, None)
    return LogResult(status, duration_s, format_name)


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

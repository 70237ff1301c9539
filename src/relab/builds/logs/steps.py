"""Divide a log into the steps (such as commands) of its build, and find the line that reports the failed step."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from relab.builds.logs.formats import FORMATS
from relab.builds.logs.models import BuildLine

STEP_STARTS: Final = re.compile("|".join(each.step_starts.pattern for each in FORMATS if each.step_starts is not None))
"""The first line of a step or command of a build, in any format."""
_NESTING: Final = tuple((each.step_starts, each.step_ends) for each in FORMATS if each.step_starts and each.step_ends)
_ENDS: Final = re.compile("|".join(ends.pattern for _, ends in _NESTING))
_FAILS: Final = re.compile("|".join(each.step_fails.pattern for each in FORMATS if each.step_fails is not None))
_TOLERATED: Final = re.compile("|".join(each.step_tolerated.pattern for each in FORMATS if each.step_tolerated))
_ANY: Final = re.compile("|".join(f"(?:{each.pattern})" for each in (_FAILS, _TOLERATED, _ENDS, STEP_STARTS)))
"""All these patterns; few lines match."""


@dataclass(frozen=True, slots=True)
class BuildSteps:
    """The steps of a build, as positions in the sequence of lines.

    Attributes:
        starts: the positions of the lines that start a step, ascending; the first is 0.
        failure: the position of the line that reports the first failed step; None if no line does. A failed step is
            ignored if a later line says that the build continues in spite of the failure.
    """

    starts: tuple[int, ...]
    failure: int | None


def find_steps(lines: Sequence[BuildLine]) -> BuildSteps:
    """Return the steps (such as commands) of the build that wrote these lines.

    A step that is nested in another step counts as a part of the outer step.
    """
    starts, failure, depth = [0], None, 0
    for position, line in enumerate(lines):
        text = line.text
        if not _ANY.match(text):
            continue
        if failure is None and _FAILS.match(text):
            failure = position
        elif failure is not None and _TOLERATED.match(text):
            failure = None
        elif _ENDS.match(text):
            depth = max(0, depth - 1)
        elif STEP_STARTS.match(text):
            can_nest = any(start.match(text) for start, _ in _NESTING)
            if position and (depth == 0 or not can_nest):
                starts.append(position)
            depth = depth + 1 if can_nest else 0
    return BuildSteps(tuple(starts), failure)

"""Baselines for the choice of error lines of a log, which relab must beat."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Final

from evals.datasets.cidiff import BuildCase
from relab.builds.logs.templates import template, templates

LAST_LINES: Final = 100
_KEYWORD: Final = re.compile(
    r"error|fail|exception|fatal|cannot|panic|unable|undefined|not found|missing|##\[error\]", re.IGNORECASE
)


def last_lines(case: BuildCase) -> set[int]:
    """Return the last 100 lines."""
    total = case.failed.total_lines
    return set(range(max(1, total - LAST_LINES + 1), total + 1))


def keyword_lines(case: BuildCase) -> set[int]:
    """Return the lines that contain one of a few keywords."""
    return {line.number for line in case.failed.lines if _KEYWORD.search(line.text)}


def new_lines(case: BuildCase) -> set[int]:
    """Return the lines whose templates the passing log does not have."""
    known = templates(case.passed.lines)
    return {line.number for line in case.failed.lines if line.text and template(line.text) not in known}


def new_blocks_with_keyword(case: BuildCase) -> set[int]:
    """Return the blocks of consecutive new lines (blank lines do not end a block) that contain a keyword."""
    lines, new = case.failed.lines, new_lines(case)
    chosen: set[int] = set()
    spoken = [bool(line.text) for line in lines]
    for joined in _runs([line.number in new or (not line.text) for line in lines]):
        run = _without_blank_ends(joined, spoken)
        if any(_KEYWORD.search(lines[position].text) for position in run):
            chosen.update(lines[position].number for position in run)
    return chosen


def _runs(flags: list[bool]) -> Iterator[list[int]]:
    run: list[int] = []
    for position, flag in enumerate([*flags, False]):
        if flag:
            run.append(position)
        elif run:
            yield run
            run = []


def _without_blank_ends(run: list[int], spoken: list[bool]) -> list[int]:
    inside = [index for index, position in enumerate(run) if spoken[position]]
    return run[inside[0] : inside[-1] + 1] if inside else []


BASELINES: Final[Mapping[str, Callable[[BuildCase], set[int]]]] = {
    "last 100 lines": last_lines,
    "lines with a keyword": keyword_lines,
    "lines not in the passing log": new_lines,
    "new blocks with a keyword": new_blocks_with_keyword,
}
"""The baselines by the names of their rows."""

"""Choose the lines of a log that explain why the build failed."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from typing import Final, TypeAlias

from relab.builds.logs.blocks import Block, find_blocks, is_noise
from relab.builds.logs.causes import is_generic
from relab.builds.logs.models import BuildLine, BuildLog, LineRole, RelevantLine
from relab.builds.logs.steps import BuildSteps, find_steps
from relab.builds.logs.templates import template, templates

Chosen: TypeAlias = dict[int, RelevantLine]
"""The chosen lines, each by its position in the sequence of lines."""

_SURENESS: Final = (0.65, 0.5, 0.0)
"""The least weight of a sure error if there is no passing log: the first of these values that an error reaches."""
_LEAST_WEIGHT: Final = 0.3
"""Blocks of less weight are not reported. They are found only because their lines must not count as new."""
_MIN_NEW_SHARE: Final = 0.3
"""A block whose first line is in the passing log is part of the failure if at least this share of its lines is new."""
_CONSEQUENCE_REACH: Final = 15
"""The consequences of an error begin at most this number of lines after the error."""
_WEAK_REACH: Final = 5
"""A block of low weight is part of the same failure if it is at most this number of lines away from a sure block."""
_LONG_RUN: Final = 60
"""A longer run of new lines has other reasons, such as a new version of a tool; only its lines near an error count."""
_NEIGHBOURS: Final = 3
_TAIL_LINES: Final = 10
_OUTPUT_BEFORE: Final = 5
_CLOSING_LINES: Final = 100
_MAX_BLANK: Final = 2
_NEIGHBOUR_SCORE: Final = 0.5
_TAIL_SCORE: Final = 0.3


def relevant_lines(log: BuildLog, passing: BuildLog | None = None) -> list[RelevantLine]:
    """Return the lines of a log that explain why the build failed, in the order of the log; empty if no line does.

    Each line has a role: error, detail of an error, or consequence of an error.

    Args:
        log: the log of the failed build.
        passing: the log of a build of the same kind that passed; None if no such log is known. Lines that both logs
            contain do not explain the failure, unless they belong to an error with new lines or to its consequences.
    """
    lines = log.lines
    blocks = find_blocks(lines)
    if passing is None:
        steps = find_steps(lines)
        kept = _blocks_of_last_failure(blocks, steps, len(lines))
        chosen = _output_before(lines, kept, steps) | _lines_of(lines, kept) or _last_output(lines, steps)
    else:
        known = templates(passing.lines)
        is_new = [bool(line.text) and template(line.text) not in known for line in lines]
        kept = _new_blocks(blocks, is_new)
        chosen = _lines_of(lines, kept)
        chosen |= _new_neighbours(lines, kept, is_new, chosen)
    chosen |= _blank_lines_between(lines, chosen)
    return [chosen[position] for position in sorted(chosen)]


def closing_lines(log: BuildLog, passing: BuildLog | None = None) -> list[RelevantLine]:
    """Return the last 100 lines of a log, except blank lines, noise, and lines that the passing log contains.

    Noise is a line that explains no failure, such as the progress of a download. Each returned line has the role
    `LineRole.DETAIL` and a low score.

    Args:
        log: the log of the failed build.
        passing: the log of a build of the same kind that passed; None if no such log is known.
    """
    known = frozenset[str]() if passing is None else templates(passing.lines)
    last = (line for line in log.lines[-_CLOSING_LINES:] if line.text and not is_noise(line.text))
    found = [line for line in last if template(line.text) not in known]
    return [_relevant(line, LineRole.DETAIL, _TAIL_SCORE, "near the end of the log") for line in found]


def _lines_of(lines: Sequence[BuildLine], blocks: Iterable[Block]) -> Chosen:
    chosen: Chosen = {}
    for block in blocks:
        rule = block.rule
        if rule.weight < _LEAST_WEIGHT:
            continue
        why = f"{block.format_name}: {rule.why}"
        for position in block.positions:
            is_first = position == block.positions[0]
            role = rule.role if is_first or rule.role is LineRole.CONSEQUENCE else LineRole.DETAIL
            if lines[position].text:
                chosen[position] = _relevant(lines[position], role, rule.weight, why)
    return chosen


def _relevant(line: BuildLine, role: LineRole, score: float, why: str) -> RelevantLine:
    return RelevantLine(line.number, line.text, role, score, why)


def _new_blocks(blocks: Iterable[Block], is_new: Sequence[bool]) -> list[Block]:
    """Return the blocks that explain why a build failed, by comparison with the log of a build that passed.

    A block has the lines that report one error or one consequence. A line is new if the passing log does not contain
    it.

    - An error is returned if its first line is new, or if at least 30 % of its lines are new.
    - A consequence is returned if its first line is new, or if it begins at most 15 lines after a returned block.

    Args:
        blocks: the blocks of the failed build's log, in the order of the log.
        is_new: for each line of the failed build's log, whether it is new.
    """
    kept: list[Block] = []
    for block in blocks:
        first = block.positions[0]
        if block.rule.role is LineRole.CONSEQUENCE:
            follows = bool(kept) and first - kept[-1].positions[-1] <= _CONSEQUENCE_REACH
            if follows or is_new[first]:
                kept.append(block)
        elif is_new[first] or sum(is_new[each] for each in block.positions) >= _MIN_NEW_SHARE * len(block.positions):
            kept.append(block)
    return kept


def _new_neighbours(
    lines: Sequence[BuildLine], blocks: Sequence[Block], is_new: Sequence[bool], chosen: Chosen
) -> Chosen:
    """Return further lines that explain the failure: new lines near an error, `{position: line}`.

    A line is new if the passing log does not contain it. Near an error means in the same run of new lines. In a run of
    more than 60 lines, it means at most 3 lines away. Noise (lines that explain no failure) is not returned.

    Args:
        lines: all lines of the failed build's log.
        blocks: the blocks of this log; a block has the lines that report one error or one consequence.
        is_new: for each line of the log, whether it is new.
        chosen: the lines that are already chosen, `{position: line}`; they are not returned.
    """
    errors = sorted(each for block in blocks if block.rule.role is LineRole.ERROR for each in block.positions)
    of_no_interest = {each for block in blocks if block.rule.weight < _LEAST_WEIGHT for each in block.positions}
    found: Chosen = {}
    for first, last in _new_runs(lines, is_new):
        inside = errors[bisect_left(errors, first) : bisect_right(errors, last)]
        if not inside:
            continue
        for position in range(first, last + 1):
            text = lines[position].text
            if not text or position in chosen or position in of_no_interest or is_noise(text):
                continue
            if last - first < _LONG_RUN or _is_near(position, position, inside, _NEIGHBOURS):
                # For example, the message of a tool whose output format relab does not know.
                found[position] = _relevant(
                    lines[position], LineRole.DETAIL, _NEIGHBOUR_SCORE, "not in the passing log, beside an error"
                )
    return found


def _new_runs(lines: Sequence[BuildLine], is_new: Sequence[bool]) -> Iterator[tuple[int, int]]:
    """Yield `(first position, last position)` of each run of consecutive new lines; blank lines do not end a run.

    `is_new` says for each line whether the line is new, that is, not in the log of a similar build that passed.
    """
    first: int | None = None
    last = 0
    for position, line in enumerate(lines):
        if is_new[position]:
            first = position if first is None else first
            last = position
        elif line.text and first is not None:
            yield first, last
            first = None
    if first is not None:
        yield first, last


def _blocks_of_last_failure(blocks: Sequence[Block], steps: BuildSteps, line_count: int) -> list[Block]:
    """Return the blocks that explain why a build failed: the sure errors of its failed step, and blocks near them.

    A block has the lines that report one error, or one consequence of an error (such as "the build failed"). Its weight
    (0 to 1) says how surely it explains a failure.

    1. Take the errors up to the line that reports the failed step (`BuildSteps.failure`), or all if no line does.
    2. The sure errors are those with a weight of at least 0.65. If there are none, those of at least 0.5. If there are
       none either, all errors.
    3. The failed step is the step with the last sure error. Its sure errors are returned.
    4. Blocks of this step near one of these errors are returned too: other errors and consequences.
    5. Consequences at most 15 lines after the line that reports the failed step are returned too.

    The result is empty if there is no error.

    Args:
        blocks: the blocks of the log, in the order of their first lines.
        steps: the steps of the build.
        line_count: the number of lines of the log.
    """
    end = steps.failure if steps.failure is not None else line_count
    # Errors after the line that reports the failed step are ignored.
    before = [block for block in blocks if block.positions[0] <= end]
    errors = [block for block in before if block.rule.role is LineRole.ERROR]
    sure: list[Block] = []
    # The least weight of a sure error: 0.65; 0.5 if no error has it; any weight if no error has 0.5.
    for least in _SURENESS:
        sure = [block for block in errors if block.rule.weight >= least]
        if sure:
            break
    if not sure:
        return []
    start = steps.starts[bisect_right(steps.starts, sure[-1].positions[0]) - 1]
    kept = [block for block in sure if block.positions[0] >= start]
    edges = sorted({edge for block in kept for edge in (block.positions[0], block.positions[-1])})
    found = {block.positions[0]: block for block in kept}
    for block in blocks:
        first, last = block.positions[0], block.positions[-1]
        is_consequence = block.rule.role is LineRole.CONSEQUENCE
        reach = _CONSEQUENCE_REACH if is_consequence else _WEAK_REACH
        is_after = is_consequence and end < first <= end + _CONSEQUENCE_REACH
        if is_after or (start <= first <= end and _is_near(first, last, edges, reach)):
            found.setdefault(first, block)
    return [found[first] for first in sorted(found)]


def _is_near(first: int, last: int, positions: Sequence[int], reach: int) -> bool:
    """Return whether one of `positions` is in the range from `first - reach` to `last + reach`, ends included.

    `positions` must be in ascending order.
    """
    index = bisect_left(positions, first - reach)
    return index < len(positions) and positions[index] <= last + reach


def _last_output(lines: Sequence[BuildLine], steps: BuildSteps) -> Chosen:
    """Return the last ten lines of the failed step that are neither blank nor noise, as `{position: line}`.

    Noise is a line that does not explain a failure, such as the progress of a download.
    """
    end = steps.failure if steps.failure is not None else len(lines)
    start = steps.starts[bisect_right(steps.starts, end) - 1]
    spoken = [each for each in range(start, end) if lines[each].text and not is_noise(lines[each].text)]
    why = "last output before the failure"
    return {each: _relevant(lines[each], LineRole.DETAIL, _TAIL_SCORE, why) for each in spoken[-_TAIL_LINES:]}


def _output_before(lines: Sequence[BuildLine], blocks: Sequence[Block], steps: BuildSteps) -> Chosen:
    """Return the last five lines of output before the first error, if no error gives a reason, as `{position: line}`.

    An error gives no reason if it only says that a command failed, such as "make: *** [all] Error 1". The reason is
    then in the output of the command. The lines are from the same step as the error. Blank lines, noise, and lines that
    only say that something failed are skipped. The result is empty if an error gives a reason.

    Args:
        lines: all lines of the log.
        blocks: the blocks that explain the failure, in the order of their first lines.
        steps: the steps of the build.
    """
    errors = [block for block in blocks if block.rule.role is LineRole.ERROR]
    if not errors or not all(block.rule.reason_before for block in errors):
        return {}
    end = errors[0].positions[0]
    start = steps.starts[bisect_right(steps.starts, end) - 1]
    found: Chosen = {}
    for position in range(end - 1, start - 1, -1):
        text = lines[position].text
        if len(found) == _OUTPUT_BEFORE:
            break
        if text and not is_noise(text) and not is_generic(text):
            found[position] = _relevant(lines[position], LineRole.DETAIL, _TAIL_SCORE, "last output before the failure")
    return found


def _blank_lines_between(lines: Sequence[BuildLine], chosen: Chosen) -> Chosen:
    """Return the blank lines between chosen lines that are close to each other, as `{position: line}`.

    A blank line is returned if only one or two blank lines separate two chosen lines. The chosen lines then form one
    piece of the log without a gap. Chosen lines with the role `LineRole.CONSEQUENCE` are ignored.
    """
    found: Chosen = {}
    spoken = sorted(position for position, line in chosen.items() if line.role is not LineRole.CONSEQUENCE)
    for before, after in pairwise(spoken):
        between = range(before + 1, after)
        if 0 < len(between) <= _MAX_BLANK and not any(lines[each].text for each in between):
            why = chosen[before].why
            found |= {each: _relevant(lines[each], LineRole.DETAIL, _TAIL_SCORE, why) for each in between}
    return found

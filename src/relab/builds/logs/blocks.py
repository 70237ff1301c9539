"""Find blocks in a log: each block is a group of lines in which a tool reports one error."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from relab.builds.logs.alternatives import REMEMBERED_LINES, Alternatives
from relab.builds.logs.formats import FORMATS, BlockRule, LogFormat
from relab.builds.logs.models import BuildLine


@dataclass(frozen=True, slots=True)
class Block:
    """Lines of a log that report one error, or one consequence of an error.

    Attributes:
        format_name: the name of the log format, which is the tool that wrote the lines.
        rule: the rule that the first line matches.
        positions: the indexes of the block's lines in the log, ascending. One worker (parallel process) wrote them;
            lines of other workers may lie between.
    """

    format_name: str
    rule: BlockRule
    positions: tuple[int, ...]


_SEARCHED_CHARS: Final = 400
"""A vague pattern is searched only in this number of characters; a longer line is data, such as a list of paths."""


class _Starts:
    """Finds the rule whose pattern matches the first line of a block.

    A block is a group of lines that report one error, or one consequence of an error.

    Args:
        formats: the log formats whose rules are tried; each describes how one tool reports errors.
    """

    def __init__(self, formats: Iterable[LogFormat]) -> None:
        rules = [(each.name, rule) for each in formats for rule in each.rules]
        # Patterns at the start of a line are joined; patterns anywhere in a line are searched one by one.
        self._named = [each for each in rules if not each[1].words]
        self._at_start = Alternatives(rule.starts.pattern for _, rule in self._named)
        # A vague rule may match the same line as a surer rule.
        self._anywhere = sorted((each for each in rules if each[1].words), key=lambda each: -each[1].weight)
        self._words = tuple(dict.fromkeys(word for _, rule in self._anywhere for word in rule.words))

    def rule_of(self, text: str) -> tuple[str, BlockRule] | None:
        """Return `(name of the format, rule)` if `text` begins a block by this rule; None if no rule matches."""
        number = self._at_start.first(text)
        if number is not None:
            return self._named[number]
        searched = text[:_SEARCHED_CHARS].lower()
        # Words are found several times faster than a pattern, and few lines have any of them.
        words = [word for word in self._words if word in searched]
        if not words:
            return None
        for name, rule in self._anywhere:
            if any(word in rule.words for word in words) and rule.starts.search(searched):
                return name, rule
        return None


_STARTS: Final = _Starts(FORMATS)
_NOISE: Final = re.compile("|".join(each.noise.pattern for each in FORMATS if each.noise is not None))
_HARMLESS: Final = re.compile("|".join(each.harmless.pattern for each in FORMATS if each.harmless is not None))


def is_noise(text: str) -> bool:
    """Return whether a line is noise: a line that explains no failure, such as "0 errors" or a download's progress."""
    return _NOISE.match(text) is not None or _HARMLESS.search(text) is not None


def find_blocks(lines: Sequence[BuildLine]) -> list[Block]:
    """Return the blocks of a log, in the order of their first lines.

    A block is a group of lines that report one error, or one consequence of an error. If several workers (parallel
    processes) write the log, a block never contains lines of two workers.
    """
    workers: dict[str, list[int]] = defaultdict(list)
    for position, line in enumerate(lines):
        workers[line.worker].append(position)
    found = [block for positions in workers.values() for block in _blocks_of_worker(lines, positions)]
    return sorted(found, key=lambda block: block.positions[0])


def _blocks_of_worker(lines: Sequence[BuildLine], positions: Sequence[int]) -> list[Block]:
    blocks: list[Block] = []
    rule_of = lru_cache(maxsize=REMEMBERED_LINES)(_STARTS.rule_of)
    index = 0
    while index < len(positions):
        text = lines[positions[index]].text
        started = rule_of(text) if text else None
        if started is None:
            index += 1
            continue
        format_name, rule = started
        if rule.role is rule.role.ERROR and rule.weight < _NOISE_OVER and is_noise(text):
            index += 1
            continue
        end = _end_of_block(lines, positions, index, rule)
        if rule.needs_more and end == index + 1:
            index += 1
            continue
        blocks.append(Block(format_name, rule, tuple(positions[index:end])))
        index = end
    return _without_survived(lines, positions, blocks)


def _without_survived(lines: Sequence[BuildLine], positions: Sequence[int], blocks: list[Block]) -> list[Block]:
    """Return the blocks of one worker (parallel process), without errors that the tool overcame.

    The tool overcame an error about a package if a later line lists this package as installed (see
    `BlockRule.survived`).

    Args:
        lines: all lines of the log.
        positions: the indexes in `lines` of the lines of the worker, ascending.
        blocks: the blocks of the worker.
    """
    patterns = {block.rule.survived for block in blocks if block.rule.survived is not None}
    installed: dict[tuple[re.Pattern[str] | None, str | None], int] = {
        (pattern, _plain(package.rpartition("-")[0])): at
        for pattern in patterns
        for at in positions
        if (match := pattern.match(lines[at].text)) is not None
        for package in match["names"].split()
    }
    texts = [lines[at].text for at in positions] if installed else []
    return [
        block
        for block in blocks
        if installed.get((block.rule.survived, _failed_package(block, positions, texts)), -1) < block.positions[-1]
    ]


def _failed_package(block: Block, positions: Sequence[int], texts: Sequence[str]) -> str | None:
    """Return the name of the package that failed, from a block or the few lines after it; None if no line names it.

    Args:
        block: the block that reports the failure.
        positions: the indexes in the log of all lines of one worker (the parallel process that wrote the block),
            ascending.
        texts: the texts of these lines, in the same order; empty if no name is needed.
    """
    if block.rule.failed is None or not texts:
        return None
    first, last = (bisect_left(positions, at) for at in (block.positions[0], block.positions[-1]))
    named = (block.rule.failed.match(text) for text in texts[first : last + 1 + _LINES_AFTER])
    return next((_plain(match["name"]) for match in named if match is not None), None)


def _plain(package: str) -> str:
    return re.sub(r"[-_.]+", "-", package).casefold()


_LINES_AFTER: Final = 5
"""pip names the package this many lines after the output of its build at most."""

_NOISE_OVER: Final = 0.65
"""A rule for errors with a lower weight is so vague that it does not start a block at a line that is noise."""


def _end_of_block(lines: Sequence[BuildLine], positions: Sequence[int], start: int, rule: BlockRule) -> int:
    """Return the index in `positions` after the last line of a block.

    Args:
        lines: all lines of the log.
        positions: the indexes in `lines` of the lines of one worker, ascending.
        start: the index in `positions` of the block's first line.
        rule: the rule that the first line matches.
    """
    end = start + 1
    if rule.continues is None:
        return end
    bridged = 0
    for index in range(start + 1, min(len(positions), start + rule.max_lines)):
        text = lines[positions[index]].text
        if rule.until is not None and rule.until.match(text):
            break
        if text and rule.continues.match(text):
            end, bridged = index + 1, 0
        elif bridged < rule.bridge:
            bridged += 1
        else:
            break
    return end

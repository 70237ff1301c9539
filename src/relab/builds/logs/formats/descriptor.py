"""The description of a format: how a tool reports errors in a log, as patterns."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from relab.builds.logs.models import LineRole
from relab.builds.models import BuildStatus, BuildTestOutcome

MAX_BLOCK_LINES: Final = 3_000
"""A deep recursion gives a stack trace of a thousand frames, and a few causes of as many."""


@dataclass(frozen=True)
class BlockRule:
    """Where a block of lines that belong together starts, and how far it goes.

    A pattern is matched at the start of a line's text (`re.match`), and must take linear time.

    Attributes:
        why: what the block is, for a person, such as "compiler error".
        starts: the pattern of the first line.
        continues: the pattern of the lines after the first, or None if the block has one line.
        until: the pattern of a line that ends the block and is not part of it, or None.
        bridge: how many other lines in a row are part of the block if a line that continues it follows them.
        weight: how surely such a block explains a failure, from 0 to 1.
        role: the role of the first line; the others are details of an error, or consequences.
        max_lines: the maximum number of lines.
        words: if not empty, `starts` is searched in the whole line, in lower case, if it contains one of these words.
    """

    why: str
    starts: re.Pattern[str]
    continues: re.Pattern[str] | None = None
    until: re.Pattern[str] | None = None
    bridge: int = 0
    weight: float = 0.9
    role: LineRole = LineRole.ERROR
    max_lines: int = MAX_BLOCK_LINES
    words: tuple[str, ...] = ()


@dataclass(frozen=True)
class ResultRule:
    """A line that says how a build ended, or how long it took.

    Attributes:
        line: the pattern of the line, matched at the start of its text; its group `duration`, if it has one, is the time.
        status: the status that the line reports; None if it reports the duration only.
        is_final: whether it is the last word on the whole job, and not that of one tool in it.
        is_default: whether it counts only if no other final line comes before it.
    """

    line: re.Pattern[str]
    status: BuildStatus | None
    is_final: bool = False
    is_default: bool = False


@dataclass(frozen=True)
class NamedTestRule:
    """A line with the result of one test.

    Attributes:
        line: the pattern of the line, matched at the start of its text, with the groups `name` and `outcome`, and optionally
            `duration` and `message`.
        outcomes: what each text of the group `outcome` means. `flaky` is a failed execution that the tool repeats.
        needs_scope: whether the line is a result only after a line that matches `ScopeRule`.
    """

    line: re.Pattern[str]
    outcomes: Mapping[str, BuildTestOutcome]
    needs_scope: bool = False


@dataclass(frozen=True)
class ScopeRule:
    """A line with the file, package or crate of tests, in its group `scope`, which is put before their names.

    Attributes:
        line: the pattern of the line, matched at the start of its text.
        ends_tests: whether it follows the tests that it is about; otherwise it precedes them.
    """

    line: re.Pattern[str]
    ends_tests: bool = False


@dataclass(frozen=True)
class LogFormat:
    """How one tool writes its log.

    Attributes:
        name: the tool, as the explanation names it.
        rules: its blocks; the first rule that matches a line starts a block.
        noise: the pattern of lines that never explain a failure, although they differ between builds, or None.
        harmless: the pattern of a phrase, anywhere in a line, with which a mention of a failure means nothing, or None.
        step_starts: the pattern of the line with which a step or command of the build starts, or None.
        step_ends: the pattern of the line with which a started step ends, if steps can be nested, or None.
        step_fails: the pattern of the line that reports that the step before it failed, or None.
        results: lines that say how the build ended; the first rule that matches a line counts.
        tests: lines with the result of one test each.
        test_scope: lines with the file, package or crate of tests, or None.
        is_vague: whether the rules fit lines of any program, so that those of the other formats come first.
    """

    name: str
    rules: tuple[BlockRule, ...] = ()
    noise: re.Pattern[str] | None = None
    harmless: re.Pattern[str] | None = None
    step_starts: re.Pattern[str] | None = None
    step_ends: re.Pattern[str] | None = None
    step_fails: re.Pattern[str] | None = None
    results: tuple[ResultRule, ...] = ()
    tests: tuple[NamedTestRule, ...] = ()
    test_scope: ScopeRule | None = None
    is_vague: bool = False

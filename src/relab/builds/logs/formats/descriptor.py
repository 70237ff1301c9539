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
    """Recognises a block: consecutive lines of a log that report one error.

    The patterns are matched at the start of a line's text (`re.match`), and must take linear time.

    Attributes:
        why: what the block is, for people, such as "compiler error".
        starts: the pattern of the block's first line.
        continues: the pattern of each further line; None if the block has one line.
        until: the pattern of a line that ends the block and does not belong to it; None: no line ends the block in this
            way.
        bridge: how many lines in a row may fail to match `continues` inside the block. They belong to the block only if
            a line that matches `continues` follows them.
        weight: how surely such a block explains a failure, from 0 to 1.
        role: the role of the first line. The further lines are details of an error, or consequences.
        max_lines: the maximum number of lines of the block.
        words: if empty, `starts` is matched at the start of each line. Otherwise `starts` is searched anywhere in the
            line in lower case, but only in lines that contain one of these words.
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
    """Recognises a line that says how a build ended, or how long it took.

    Attributes:
        line: the pattern of the line, matched at the start of its text. If the pattern has a group `duration`, the
            group is the time that the build took.
        status: the status that the line reports; None if it reports the duration only.
        is_final: True: the line reports the end of the whole job. False: the line reports the end of one tool in the
            job.
        is_default: whether the line is weak evidence. Such a line is ignored after a line that reports the end of the
            whole job, and in a log whose middle was left out.
    """

    line: re.Pattern[str]
    status: BuildStatus | None
    is_final: bool = False
    is_default: bool = False


@dataclass(frozen=True)
class NamedTestRule:
    """Recognises a line with the result of one test.

    Attributes:
        line: the pattern of the line, matched at the start of its text, with the groups `name` and `outcome`, and
            optionally `duration` and `message`.
        outcomes: `{text of the group outcome: outcome}`. `flaky` stands for a failed execution that the tool repeats.
        needs_scope: whether the line is a result only if a line that matches the format's `ScopeRule` came before it.
    """

    line: re.Pattern[str]
    outcomes: Mapping[str, BuildTestOutcome]
    needs_scope: bool = False


@dataclass(frozen=True)
class ScopeRule:
    """Recognises a line that names the scope of tests: their file, package or crate.

    The scope is put before the names of these tests: `scope::name`.

    Attributes:
        line: the pattern of the line, matched at the start of its text; its group `scope` is the name of the scope.
        ends_tests: True if the line comes after the tests of its scope, False if it comes before them.
    """

    line: re.Pattern[str]
    ends_tests: bool = False


@dataclass(frozen=True)
class LogFormat:
    """How one tool writes its log.

    Attributes:
        name: the name of the tool, as explanations of a failure use it.
        rules: the rules for blocks; the first rule that matches a line starts a block.
        noise: the pattern of lines that never explain a failure, although they differ between builds, or None.
        harmless: the pattern of a phrase, anywhere in a line, after which a word like "failed" in the line means
            nothing, or None.
        step_starts: the pattern of the line with which a step or command of the build starts, or None.
        step_ends: the pattern of the line with which a started step ends, if steps can be nested, or None.
        step_fails: the pattern of the line that reports that the step before it failed, or None.
        results: the rules for lines that say how the build ended; the first rule that matches a line is used.
        tests: the rules for lines with the result of one test.
        test_scope: the rule for lines that name the file, package or crate of tests, or None.
        is_vague: whether the rules fit lines of any program; then the rules of the other formats are tried first.
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

"""Classes that describe the log of a build tool by patterns: of its errors, steps, results and tests."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from relab.builds.logs.models import LineRole
from relab.builds.models import BuildStatus, BuildTestOutcome

MAX_BLOCK_LINES: Final = 3_000
"""Enough for the stack trace of a deep recursion (a thousand frames) with a few causes of the same length."""


@dataclass(frozen=True)
class BlockRule:
    """Recognises a block: consecutive lines of a log that report one error or one consequence.

    Each pattern is matched at the start of a line's text (`re.match`). Exception: if the rule has `words`, `starts` may
    match anywhere in the line. Each pattern must match in linear time.

    Attributes:
        why: the name of the block for people, such as "compiler error".
        starts: the pattern of the block's first line.
        continues: the pattern of each further line; None if the block has one line.
        until: the pattern of a line that ends the block; this line is not part of the block. None: only lines that do
            not match `continues` end the block (see `bridge`).
        bridge: the largest number of consecutive lines that do not match `continues` and do not end the block.
        weight: how surely a block of this rule explains the failure of a build, from 0 to 1.
        role: the role of the first line. If it is an error, the further lines are details of the error; if it is a
            consequence, they are consequences too.
        max_lines: the maximum number of lines of the block.
        words: words in lower case, one of which the first line must contain. The line is cut to 400 characters and
            converted to lower case before `words` and `starts` are searched in it. Empty: no such condition.
        failed: the pattern of a line, in the block or shortly after it, that names the package whose installation
            failed (group `name`). None: the package is unknown.
        survived: the pattern of a line that lists installed packages (group `names`), such as `foo-1.2`. If such a line
            after the block lists the failed package, the block is ignored. None: the tool prints no such line.
        needs_more: whether the first line alone is not a block: a line that matches `continues` must follow.
        reason_before: whether the block only says that a command failed. The reason is then in the output before it.
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
    failed: re.Pattern[str] | None = None
    survived: re.Pattern[str] | None = None
    needs_more: bool = False
    reason_before: bool = False


@dataclass(frozen=True)
class ResultRule:
    """Recognises a line that says how a build ended, or how long it took.

    Attributes:
        line: the pattern, which must match at the start of the line. Its optional group `duration` is the duration of
            the build.
        status: the status that the line reports; None if it reports only a duration. `unknown` cancels the status that
            an earlier line reported: the status of the job if `is_final`, otherwise the status of the last tool.
        is_final: whether the line reports the end of the whole job; False for the end of one tool in the job.
        is_default: whether the line is weak evidence. A weak line is ignored if the log was shortened. It is also
            ignored after a line that is strong evidence for the end of the whole job.
        yields_to: statuses. The line is ignored if the previous result has one of them and is from the same tool. For
            example, a tool may print the number of failed tests and then the number of passed tests.
        only_after: the line counts only if the previous result has this status and is from the same tool. None: no such
            condition.
        is_lasting: whether the tool continues after the line, but will end with this status. For example, npm runs the
            tests of the other workspaces after a failure. Results of tools are then ignored until the next step or
            command of the build starts; its start shows that the build tolerated the failure.
        is_outer: whether the tool runs other tools and reports their common result. The line then counts even after a
            result with `is_lasting`.
        follows: the line counts only if a line that matches this pattern was shortly before it (see `within`). Used if
            other tools print the same line. None: no such condition.
        within: the largest distance, in lines, between the line and the earlier line that matches `follows`.
        broken_by: the pattern of a line that ends what the line of `follows` started; the line then does not count. For
            example, the place of a warning is followed by the warning, so a later error is not from this place.
        between: the pattern of a line between two results of one run of the tool. Without such a line since the
            previous result, the line is from a new run, and `yields_to` has no effect. None: `yields_to` always counts.
    """

    line: re.Pattern[str]
    status: BuildStatus | None
    is_final: bool = False
    is_default: bool = False
    yields_to: tuple[BuildStatus, ...] = ()
    only_after: BuildStatus | None = None
    is_lasting: bool = False
    is_outer: bool = False
    follows: re.Pattern[str] | None = None
    within: int = 1
    broken_by: re.Pattern[str] | None = None
    between: re.Pattern[str] | None = None


@dataclass(frozen=True)
class NamedTestRule:
    """Recognises a line with the result of one test.

    Attributes:
        line: the pattern of the line, matched at its start. Its groups are `outcome`, `name` (unless `named_before` is
            given) and, optionally, `duration` and `message`.
        outcomes: `{text of the group outcome: outcome}`; `flaky` means that the test failed and the tool repeats it.
        needs_scope: whether the line counts only after a line that matches the format's `ScopeRule`.
        corrects: whether the line replaces the outcome that an earlier line reported for the test, for example because
            the test passed when repeated. Without an earlier line about the test, the line is ignored.
        named_before: the pattern of an earlier line that names the test (groups `name` and, optionally, `duration`).
            The last such line counts. None: `line` names the test.
        part_edges: the pattern of the lines that divide the log into parts, such as the outputs of the tasks. If the
            group `part` takes part in the match, it is the name of the part that starts or continues there; otherwise
            the line ends the output of the tool. Give this pattern only if test names are unique within a part: a test
            that fails and later passes in the same part is then flaky, even if the build failed. None if different
            tests may have the same name.
    """

    line: re.Pattern[str]
    outcomes: Mapping[str, BuildTestOutcome]
    needs_scope: bool = False
    corrects: bool = False
    named_before: re.Pattern[str] | None = None
    part_edges: re.Pattern[str] | None = None


@dataclass(frozen=True)
class FailedListRule:
    """Recognises a list of failed tests that no `NamedTestRule` can read, for example because names take several lines.

    Each pattern is matched at the start of a line.

    Attributes:
        opens: the pattern of the line that starts the list: a title, or already the first item.
        item: the pattern of the first line of an item; its group `name` is the name of the test, or its beginning.
        closes: the pattern of the first line after the list.
        continues: the pattern of each further line of a name (group `name`). The name ends at the first line whose
            group ends with a colon. None: each name is on one line.
        is_fallback: whether the list counts only if no `NamedTestRule` of the format found a failed test in the log.
    """

    opens: re.Pattern[str]
    item: re.Pattern[str]
    closes: re.Pattern[str]
    continues: re.Pattern[str] | None = None
    is_fallback: bool = False


@dataclass(frozen=True)
class ScopeRule:
    """Recognises a line that names the scope of tests: their file, package or crate.

    The stored name of a test is then `scope::name`.

    Attributes:
        line: the pattern of the line, matched at its start; its group `scope` is the name of the scope.
        ends_tests: True if the line comes after the tests of its scope, False if it comes before them.
    """

    line: re.Pattern[str]
    ends_tests: bool = False


@dataclass(frozen=True)
class LogFormat:
    """How one tool writes its log. A pattern is None if the tool writes no such line.

    Attributes:
        name: the name of the tool, for explanations of a failure.
        rules: the rules for blocks (consecutive lines that report one error or one consequence). The first rule that
            matches a line starts a block. Rules with `words` are tried after the others of all formats, in the order
            of their weights.
        headers: the pattern of a block's first line that is only a header, such as "Traceback"; the error message is
            then in a later line.
        noise: the pattern of a line that alone explains no failure; it is matched at the start of the line.
        harmless: the pattern of a phrase, such as "0 errors", anywhere in a line. A line with this phrase is noise.
        step_starts: the pattern of the first line of a step or command of the build.
        step_ends: the pattern of the last line of a step, if steps can be nested.
        step_fails: the pattern of the line that reports the failure of the step before it.
        step_tolerated: the pattern of a line after the line of `step_fails`, which says that the build continues as if
            the step had succeeded.
        results: the rules for a line that says how the build ended. The first rule that matches is used; rules with
            `follows` are tried before the others.
        tests: the rules for a line with the result of one test.
        failed_lists: the rules for lists of failed tests.
        test_scope: the rule for a line that names the file, package or crate of tests.
        ci: the short name of the CI system that writes such logs, such as `github`; None for any other tool.
        ci_sign: the pattern of a line that only this CI system writes, and writes near the beginning of its logs.
        is_vague: whether the rules may match lines of other tools. Such a format is tried after the others.
    """

    name: str
    rules: tuple[BlockRule, ...] = ()
    headers: re.Pattern[str] | None = None
    noise: re.Pattern[str] | None = None
    harmless: re.Pattern[str] | None = None
    step_starts: re.Pattern[str] | None = None
    step_ends: re.Pattern[str] | None = None
    step_fails: re.Pattern[str] | None = None
    step_tolerated: re.Pattern[str] | None = None
    results: tuple[ResultRule, ...] = ()
    tests: tuple[NamedTestRule, ...] = ()
    failed_lists: tuple[FailedListRule, ...] = ()
    test_scope: ScopeRule | None = None
    ci: str | None = None
    ci_sign: re.Pattern[str] | None = None
    is_vague: bool = False

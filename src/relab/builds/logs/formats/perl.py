"""The log format of Perl: its interpreter, and the tests of Test::Harness and prove."""

import re

from relab.builds.logs.formats.descriptor import BlockRule, LogFormat, NamedTestRule, ResultRule
from relab.builds.logs.models import LineRole
from relab.builds.models import BuildStatus, BuildTestOutcome

_TOTAL = re.compile(r"Files=\d{1,9}, Tests=\d")

FORMAT = LogFormat(
    "Perl",
    rules=(
        BlockRule(
            "missing module", re.compile(r"Can't locate (?:\S{1,200}\.pm|loadable object) (?:in|for)\b"), weight=0.97
        ),
        BlockRule(
            "missing module",
            re.compile(r"x?t/\S{1,300}+ \.{2,} ?Can't locate \S{1,200}\.pm in @INC\b"),
            weight=0.97,
        ),
        BlockRule(
            "error of cpanm",
            re.compile(
                r"(?:STDERR: )?! (?:Installing the dependencies failed: |(?:Configure|Testing) failed for |Couldn't find module )"
            ),
            weight=0.95,
        ),
        BlockRule("error of cpanm", re.compile(r"! Installing \S{1,200} failed\."), weight=0.9, reason_before=True),
        BlockRule("error of the syntax", re.compile(r"syntax error at \S{1,300} line \d{1,7}, near "), weight=0.97),
        BlockRule(
            "failed test",
            re.compile(r"\s*#\s+Failed test(?! \(TODO\)| \(with| 'use \w)\b"),
            re.compile(r"\s*# {3,}\S"),
            weight=0.95,
            max_lines=40,
        ),
        BlockRule(
            "result of the tests",
            re.compile(
                r"\s*# Looks like (?:you|your test)|Dubious, test returned|Failed \d{1,9}/\d{1,9} (?:subtests|test programs)|Result: FAIL$"
                r"|[\w./+-]{1,300}\.t +\(Wstat: |  (?:Failed tests?|Non-zero exit status|Parse errors): "
            ),
            weight=0.3,
            role=LineRole.CONSEQUENCE,
        ),
        BlockRule(
            "message that follows from another one",
            re.compile(r"(?:Compilation failed in require|BEGIN failed--compilation aborted)\b"),
            weight=0.3,
            role=LineRole.CONSEQUENCE,
        ),
        BlockRule(
            "exception",
            re.compile(r"^(?!#|\s).{1,300} at \S{1,300}\.(?:pm|pl|t|al) line \d{1,7}(?:[.,]|$)"),
            weight=0.9,
            words=(" line ",),
        ),
    ),
    noise=re.compile(r"[\w./+-]{1,300}\.t \.{2,} ?(?:ok|skipped)\b"),
    results=(
        ResultRule(
            re.compile(
                r"x?t/\S{1,300}+ \.{2,} ?Dubious, test returned [1-9]|! (?:Installing \S{1,200} failed\.|Installing the dependencies failed: |Configure failed for )"
            ),
            BuildStatus.FAILED,
        ),
        # Other programs print such results, too.
        ResultRule(re.compile(r"Result: FAIL$"), BuildStatus.FAILED, follows=_TOTAL),
        ResultRule(re.compile(r"Result: PASS$"), BuildStatus.SUCCESS, follows=_TOTAL),
    ),
    tests=(
        NamedTestRule(
            re.compile(r"(?P<name>[\w./+-]{1,300}\.t) \.{2,} ?(?P<outcome>ok|skipped)(?:$|: )"),
            {"ok": BuildTestOutcome.PASSED, "skipped": BuildTestOutcome.SKIPPED},
        ),
        # The summary lists also tests whose sub-tests succeeded although they were expected to fail.
        NamedTestRule(
            re.compile(
                r"(?P<name>[\w./+-]{1,300}\.t) +\(Wstat: (?!0 Tests: \d{1,9} Failed: 0\))\d{1,6}\b.{0,40}? (?P<outcome>Tests): \d"
            ),
            {"Tests": BuildTestOutcome.FAILED},
        ),
    ),
)

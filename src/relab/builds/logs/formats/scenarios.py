"""The log format of tools for tests that are written as sentences: Behave and Robot Framework."""

import re

from relab.builds.logs.formats.descriptor import BlockRule, FailedListRule, LogFormat, NamedTestRule, ResultRule
from relab.builds.models import BuildStatus, BuildTestOutcome

_COUNT = r"[1-9]\d{0,8} (?:tests?|tasks?), \d{1,9} passed, "

FORMAT = LogFormat(
    "tests in words",
    rules=(
        BlockRule(
            "failed step of Behave",
            re.compile(r"\s{2,20}(?:ASSERT FAILED|Assertion Failed|Traceback \(most recent call last\)): ?"),
            re.compile(r"\s{6,}\S"),
            weight=0.95,
            max_lines=30,
        ),
        BlockRule(
            "failed test of Robot Framework",
            re.compile(r"\S[^|]{0,320}\| FAIL \|$"),
            re.compile(r"(?!-{10,}|={10,}|\d{1,9} tests?, )\S"),
            weight=0.95,
            max_lines=12,
            needs_more=True,
        ),
    ),
    headers=re.compile(r"\S[^|]{0,320}\| FAIL \|$"),
    results=(
        ResultRule(
            re.compile(r"\d{1,9} scenarios? passed, (?:[1-9]\d{0,8} failed|0 failed, [1-9]\d{0,8} error)\b"),
            BuildStatus.FAILED,
        ),
        ResultRule(re.compile(r"[1-9]\d{0,8} scenarios? passed, 0 failed, \d{1,9} skipped"), BuildStatus.SUCCESS),
        ResultRule(re.compile(rf"{_COUNT}[1-9]\d{{0,8}} failed\b"), BuildStatus.FAILED),
        ResultRule(re.compile(rf"{_COUNT}0 failed\b"), BuildStatus.SUCCESS),
    ),
    tests=(
        # A row ends each test. The suite has a line of the same form as its tests, but a double row ends it.
        NamedTestRule(
            re.compile(r"-{70,}$"),
            {"PASS": BuildTestOutcome.PASSED, "FAIL": BuildTestOutcome.FAILED, "SKIP": BuildTestOutcome.SKIPPED},
            named_before=re.compile(r"(?P<name>\S[^|]{0,320})\| (?P<outcome>PASS|FAIL|SKIP) \|$"),
        ),
    ),
    failed_lists=(
        FailedListRule(
            opens=re.compile(r"(?:Failing|Errored) scenarios:\s*$"),
            item=re.compile(r"  \S{1,300}\.feature:\d{1,7} {2}(?P<name>\S.{0,300})$"),
            closes=re.compile(r"$"),
        ),
    ),
)

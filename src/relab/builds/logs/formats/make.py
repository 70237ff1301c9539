"""The log format of make, Automake's tests, Ninja, CMake and CTest."""

import re

from relab.builds.logs.formats.descriptor import BlockRule, LogFormat, NamedTestRule, ResultRule
from relab.builds.models import BuildStatus, BuildTestOutcome

# Scripts print counts such as "FAIL: 0", and many tools print an error of one word, such as "ERROR: canceled".
_AUTOMAKE_FAILED = r"(?=[EFX])(?:FAIL|XPASS|ERROR(?=: [\w./+-]{0,300}[./]\w)): (?!\d+$)[\w./+-]{1,300}$"

FORMAT = LogFormat(
    "make",
    rules=(
        BlockRule(
            "missing prerequisite",
            re.compile(r"(?:g?make|mingw32-make)(?:\[\d+\])?: \*\*\* No rule to make target"),
            weight=0.95,
        ),
        BlockRule(
            "failed target",
            re.compile(r"(?:g?make|mingw32-make)(?:\[\d+\])?: \*\*\* "),
            weight=0.7,
            reason_before=True,
        ),
        BlockRule(
            "failed step of Ninja",
            re.compile(r"FAILED: \S"),
            re.compile(r".*\S"),
            until=re.compile(r"\[\d+/\d+\]|ninja: "),
            weight=0.85,
            max_lines=200,
        ),
        BlockRule("failed test of Automake", re.compile(_AUTOMAKE_FAILED), weight=0.9),
        BlockRule(
            "failed test of CTest",
            re.compile(r"\s*+\d{1,6}/\d{1,6} Test +#\d{1,6}: .{1,400}\*\*\*(?:Failed|Timeout|Exception)"),
            re.compile(r".*\S"),
            until=re.compile(r"\s+Start +\d+: |\s*\d{1,6}/\d{1,6} Test|\d+% tests passed"),
            bridge=1,
            weight=0.9,
            max_lines=60,
        ),
        BlockRule("error of Ninja", re.compile(r"ninja: (?:error|fatal)"), weight=0.9),
        BlockRule("error of Ninja at the end", re.compile(r"ninja: build stopped"), weight=0.5),
        BlockRule(
            "error of CMake", re.compile(r"CMake Error\b"), re.compile(r"\s+\S"), bridge=1, weight=0.95, max_lines=40
        ),
    ),
    noise=re.compile(
        r"make(?:\[\d+\])?: (?:Entering|Leaving) directory|\[\d+/\d+\] |\[ *\d+%\] "
        r"|-- (?:Performing Test|Looking for|Check(?:ing)? for|Detecting) |--   (?:Package '|No package ')|# (?:TOTAL|PASS|SKIP|XFAIL|FAIL|XPASS|ERROR): "
    ),
    results=(
        # CTest.
        ResultRule(re.compile(r"100% tests passed(?:, 0 tests failed)? out of [1-9]\d{0,8}$"), BuildStatus.SUCCESS),
        ResultRule(
            re.compile(r"\d{1,2}% tests passed, [1-9]\d{0,8} tests? failed out of \d{1,9}$"), BuildStatus.FAILED
        ),
        ResultRule(re.compile(r"-- Configuring incomplete, errors occurred!"), BuildStatus.FAILED),
        ResultRule(re.compile(r"g?make: \*\*\* (?!.{1,1000}\(ignored\)$)|ninja: build stopped"), BuildStatus.FAILED),
    ),
    tests=(
        # Automake.
        NamedTestRule(
            re.compile(
                r"(?P<outcome>PASS|FAIL|SKIP|XFAIL|XPASS|ERROR(?=: [\w./+-]{0,300}[./]\w)): (?P<name>(?!\d+$)[\w./+-]{1,300})$"
            ),
            {
                "PASS": BuildTestOutcome.PASSED,
                **dict.fromkeys(("SKIP", "XFAIL"), BuildTestOutcome.SKIPPED),
                **dict.fromkeys(("FAIL", "XPASS", "ERROR"), BuildTestOutcome.FAILED),
            },
        ),
        # CTest, which belongs to CMake.
        NamedTestRule(
            re.compile(
                r"\s*(?:\d{1,6}/\d{1,6} )?Test +#\d{1,6}: (?P<name>\S{1,400}) \.{2,200}(?:\*\*\*| +)"
                r"(?P<outcome>Passed|Failed|Timeout|Not Run|Exception)"
            ),
            {
                "Passed": BuildTestOutcome.PASSED,
                "Not Run": BuildTestOutcome.SKIPPED,
                **dict.fromkeys(("Failed", "Timeout", "Exception"), BuildTestOutcome.FAILED),
            },
            part_edges=re.compile(r"Test project (?P<part>\S.{0,1500})$|\d{1,3}% tests passed\b"),
        ),
    ),
)

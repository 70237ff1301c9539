"""The log format of Zig: compiler errors and the results of tests."""

import re

from relab.builds.logs.formats.descriptor import BlockRule, LogFormat, NamedTestRule, ResultRule
from relab.builds.models import BuildStatus, BuildTestOutcome

_OUTCOMES = {"OK": BuildTestOutcome.PASSED, "SKIP": BuildTestOutcome.SKIPPED, "FAIL": BuildTestOutcome.FAILED}
_TEST = r"\d{1,6}/\d{1,6} (?P<name>[\w.]{1,200}\.(?:test|decltest)[._].{0,300}?)\.\.\."

FORMAT = LogFormat(
    "Zig",
    rules=(
        # Zig prints the message of a failed expectation after the name of the test.
        BlockRule(
            "failed test",
            re.compile(r"\d{1,6}/\d{1,6} [\w.]{1,200}\.(?:test|decltest)[._].{0,300}\.\.\.(?!OK$|SKIP$)"),
            re.compile(r"FAIL \(|\s+\S|\S{1,300}\.zig:\d|\S"),
            until=re.compile(r"\d{1,6}/\d{1,6} |\d{1,6} passed; "),
            weight=0.9,
            max_lines=30,
        ),
    ),
    noise=re.compile(r"\d{1,6}/\d{1,6} .{1,500}\.\.\.(?:OK|SKIP)$"),
    results=(
        ResultRule(
            re.compile(
                r"\d{1,6} passed; \d{1,6} skipped; [1-9]\d{0,5} failed\.|[\w./-]{1,300}+(?<=\.zig):\d{1,7}:\d{1,5}: error: |error: the following .{1,40} (?:failed|crashed|terminated)"
            ),
            BuildStatus.FAILED,
        ),
        ResultRule(
            re.compile(r"All \d{1,6} tests passed\.$|\d{1,6} passed; \d{1,6} skipped; 0 failed\.$"), BuildStatus.SUCCESS
        ),
    ),
    tests=(
        NamedTestRule(re.compile(rf"{_TEST}(?P<outcome>OK|SKIP|FAIL)\b"), _OUTCOMES),
        NamedTestRule(re.compile(r"(?P<outcome>FAIL) \(\w{1,100}\)$"), _OUTCOMES, named_before=re.compile(_TEST)),
    ),
)

"""The log format of GoogleTest: the results of tests."""

import re

from relab.builds.logs.formats.descriptor import LogFormat, NamedTestRule
from relab.builds.models import BuildTestOutcome

FORMAT = LogFormat(
    "GoogleTest",
    tests=(
        NamedTestRule(
            re.compile(
                r"\[ +(?P<outcome>OK|FAILED|SKIPPED) +\] (?P<name>[\w./]{1,400})(?:, where .{0,1000})? \((?P<duration>\d{1,9} ms)\)$"
            ),
            {
                "OK": BuildTestOutcome.PASSED,
                "FAILED": BuildTestOutcome.FAILED,
                "SKIPPED": BuildTestOutcome.SKIPPED,
            },
        ),
    ),
)

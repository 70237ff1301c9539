"""The log format of Meson: its tests, and how they ended."""

import re

from relab.builds.logs.formats.descriptor import BlockRule, LogFormat, NamedTestRule, ResultRule
from relab.builds.models import BuildStatus, BuildTestOutcome

_DURATION = r"(?P<duration>\d{1,7}\.\d{1,3} ?s)"
_OUTCOMES = {
    "OK": BuildTestOutcome.PASSED,
    **dict.fromkeys(("SKIP", "EXPECTEDFAIL"), BuildTestOutcome.SKIPPED),
    **dict.fromkeys(("FAIL", "TIMEOUT", "ERROR", "UNEXPECTEDPASS", "INTERRUPT"), BuildTestOutcome.FAILED),
}

FORMAT = LogFormat(
    "Meson",
    rules=(
        BlockRule(
            "failed test",
            re.compile(r" {0,6}\d{1,6}/\d{1,6} \S.{0,400} (?:FAIL|TIMEOUT|ERROR|UNEXPECTEDPASS) +\d{1,7}\.\d"),
            re.compile(r".*\S"),
            until=re.compile(r" {0,6}\d{1,6}/\d{1,6} |Ok: |Summary of Failures:"),
            bridge=1,
            weight=0.9,
            max_lines=60,
        ),
        BlockRule("error of the description", re.compile(r"[\w./-]{0,300}meson\.build:\d+:\d+: ERROR: "), weight=0.95),
    ),
    noise=re.compile(r"Project version: |Full log written to "),
    results=(
        # The numbers are in one column; scripts print lines such as "Timeout: 30".
        ResultRule(re.compile(r"Ok: {12,}[1-9]\d{0,8}$"), BuildStatus.SUCCESS),
        ResultRule(re.compile(r"(?:(?:Fail|Timeout): {12,}|Unexpected Pass: {4,})[1-9]\d{0,8}$"), BuildStatus.FAILED),
    ),
    tests=(
        NamedTestRule(
            re.compile(
                rf" {{0,6}}\d{{1,6}}/\d{{1,6}} (?P<name>\S.{{0,400}}?)(?<! ) +(?P<outcome>{'|'.join(_OUTCOMES)}) +{_DURATION}"
            ),
            _OUTCOMES,
        ),
    ),
)

"""The log format of Apache Ant's task junit, whose lines begin with the name of the task."""

import re

from relab.builds.logs.formats.descriptor import BlockRule, LogFormat, NamedTestRule, ScopeRule
from relab.builds.models import BuildTestOutcome

_JUNIT = r"\s*\[junit\] \s*"
_OUTCOMES = {"FAILED": BuildTestOutcome.FAILED, "Caused an ERROR": BuildTestOutcome.FAILED}

FORMAT = LogFormat(
    "Ant",
    rules=(
        BlockRule(
            "failed test of JUnit",
            re.compile(rf"{_JUNIT}(?:Testcase: .{{1,400}}:\t)?(?:FAILED|Caused an ERROR)$"),
            re.compile(r"\s*\[junit\] \s*\S"),
            until=re.compile(rf"{_JUNIT}(?:Test(?:case|suite): |Test \S)"),
            weight=0.95,
            max_lines=60,
        ),
    ),
    tests=(
        NamedTestRule(
            re.compile(
                rf"{_JUNIT}Testcase: (?P<name>\S.{{0,400}}?)(?:\(\S{{1,300}}\))?:\t(?P<outcome>FAILED|Caused an ERROR)$"
            ),
            _OUTCOMES,
        ),
        NamedTestRule(
            re.compile(rf"{_JUNIT}(?P<outcome>FAILED|Caused an ERROR)$"),
            _OUTCOMES,
            named_before=re.compile(
                rf"{_JUNIT}Testcase: (?P<name>\S.{{0,400}}?) took (?P<duration>[\d.]{{1,12}} s)ec$"
            ),
        ),
    ),
    test_scope=ScopeRule(re.compile(rf"{_JUNIT}Testsuite: (?P<scope>\S{{1,300}})$")),
)

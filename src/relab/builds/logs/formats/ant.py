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
        # The formatter `xml` writes the report of each class.
        BlockRule(
            "failed test of JUnit",
            re.compile(rf"{_JUNIT}<(?:failure|error)\b"),
            re.compile(r"\s*\[junit\] \s*\S"),
            until=re.compile(rf"{_JUNIT}</"),
            weight=0.95,
            max_lines=60,
        ),
        BlockRule("report of JUnit", re.compile(rf"{_JUNIT}</?(?:test(?:suite|case)|propert|system-)"), weight=0.2),
        BlockRule(
            "error of Ant",
            re.compile(
                r'(?:\S{1,400}\.xml:\d{1,7}: (?!Compile failed;|Tests? .{0,200}failed|The following error occurred)|Target ")\S'
            ),
            re.compile(r"(?:Cause|Action): | using the classloader"),
            weight=0.9,
            max_lines=12,
        ),
        BlockRule(
            "task that Ant cannot load",
            re.compile(r"\s*\[(?:taskdef|typedef)\] Could not load definitions from resource \S"),
            weight=0.6,
        ),
    ),
    tests=(
        NamedTestRule(
            re.compile(rf"{_JUNIT}<(?P<outcome>failure|error)\b"),
            dict.fromkeys(("failure", "error"), BuildTestOutcome.FAILED),
            named_before=re.compile(
                rf'{_JUNIT}<testcase (?:classname="[^"]{{0,400}}" )?name="(?P<name>[^"]{{1,400}})"(?: time="(?P<duration>[\d.]{{1,12}})")?>$'
            ),
        ),
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

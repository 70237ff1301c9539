"""The log format of pytest and unittest: failures with their reports, and the summary."""

import re

from relab.builds.logs.formats.descriptor import BlockRule, FailedListRule, LogFormat, NamedTestRule, ResultRule
from relab.builds.models import BuildStatus, BuildTestOutcome

_OUTCOMES = {
    "PASSED": BuildTestOutcome.PASSED,
    "XPASS": BuildTestOutcome.PASSED,
    "FAILED": BuildTestOutcome.FAILED,
    "ERROR": BuildTestOutcome.FAILED,
    "SUBFAILED": BuildTestOutcome.FAILED,
    "SUBFAIL": BuildTestOutcome.FAILED,
    "SKIPPED": BuildTestOutcome.SKIPPED,
    "XFAIL": BuildTestOutcome.SKIPPED,
    "RERUN": BuildTestOutcome.FLAKY,
}
_OF_UNITTEST = {
    "ok": BuildTestOutcome.PASSED,
    "expected failure": BuildTestOutcome.PASSED,
    "FAIL": BuildTestOutcome.FAILED,
    "ERROR": BuildTestOutcome.FAILED,
    "skipped": BuildTestOutcome.SKIPPED,
}
_NAMES = "|".join(_OUTCOMES)
_TEST = r"[\w./-]{1,300}\.py(?:::[^\s\[]{1,600}(?:\[.{0,1500}?\](?= - | [A-Z]|$))?)?"
_SUBTEST = r"SUBFAIL(?:ED)?[(\[].{0,600}?[)\]]"
"""The beginning of a line about a subtest, with its message and parameters, which may contain brackets."""
_SUMMARY = r"(?:={1,500} )?(?:\d{1,9} [a-z]{1,20}(?: [a-z]{1,20})?, ){0,12}"
"""The beginning of the last line: a row of `=`, which the option -q omits, and counts such as `3 passed, `."""
_METHOD = r"\w{1,200} \([\w.]{1,400}\)"

FORMAT = LogFormat(
    "pytest",
    rules=(
        BlockRule(
            "report of a failed test",
            re.compile(r"_{3,} .{1,300} _{3,}$"),
            re.compile(r".*\S"),
            until=re.compile(r"_{3,} .{1,300} _{3,}$|={3,} .{1,300} ={3,}$"),
            bridge=3,
            weight=0.95,
            max_lines=200,
        ),
        BlockRule(
            "failed test",
            re.compile(rf"(?:FAILED|ERROR|{_SUBTEST}) [\w./-]{{1,300}}(?:\.py)?(?:::\S| - )|ERROR collecting "),
            weight=0.95,
        ),
        BlockRule(
            "failed assertion",
            re.compile(r"E {3,}(?!\d+ / \d+ \(|\[ *\d+%\]$)\S|E$"),
            re.compile(r"E {3,}\S|E$"),
            weight=0.95,
        ),
        BlockRule(
            "failed test of unittest",
            re.compile(r"(?:FAIL|ERROR): \w{1,200} \("),
            re.compile(r".*\S"),
            until=re.compile(r"={20,}$|Ran \d+ tests?"),
            bridge=2,
            weight=0.95,
            max_lines=200,
        ),
        BlockRule(
            "result of the tests",
            re.compile(r"={3,} .{0,200}\b[1-9]\d* (?:failed|errors?)\b.{0,200} ={3,}$|FAILED \((?:failures|errors)="),
            weight=0.6,
        ),
    ),
    noise=re.compile(
        r".{1,300} PASSED\b|={3,} (?:test session starts|FAILURES|ERRORS|warnings summary|short test summary info) ={3,}$"
    ),
    results=(
        ResultRule(
            re.compile(rf"{_SUMMARY}[1-9]\d{{0,8}} (?:failed|errors?)\b.{{0,200}} in (?P<duration>[\d.]{{1,20}}s)\b"),
            BuildStatus.FAILED,
        ),
        ResultRule(
            re.compile(rf"{_SUMMARY}[1-9]\d{{0,8}} passed\b.{{0,200}} in (?P<duration>[\d.]{{1,20}}s)\b"),
            BuildStatus.SUCCESS,
            yields_to=(BuildStatus.INTERRUPTED,),
        ),
        ResultRule(re.compile(r"!{3,} KeyboardInterrupt !{3,}$"), BuildStatus.INTERRUPTED),
        ResultRule(re.compile(r"FAILED \((?:failures|errors|unexpected)="), BuildStatus.FAILED),
        # unittest and its relatives; many tools print a line "OK".
        ResultRule(re.compile(r"Ran \d{1,9} tests? in \d"), BuildStatus.UNKNOWN),
        ResultRule(
            re.compile(r"(?:OK|PASSED)(?: \([A-Za-z ]{1,30}=\d.{0,100}\))?$"),
            BuildStatus.SUCCESS,
            only_after=BuildStatus.UNKNOWN,
        ),
    ),
    tests=(
        NamedTestRule(
            re.compile(rf"\[gw\d+\] \[ *\d{{1,3}}%\] (?P<outcome>{_NAMES}) (?P<name>\S.{{0,1500}})"), _OUTCOMES
        ),
        NamedTestRule(
            re.compile(rf"(?P<name>{_TEST}) (?P<outcome>{_NAMES})(?: +\(.{{0,300}}\))?(?: +\[ *\d{{1,3}}%\])?$"),
            _OUTCOMES,
        ),
        NamedTestRule(
            re.compile(
                rf"(?P<outcome>FAILED|ERROR|SUBFAIL(?:ED)?(?=[(\[]))(?:(?<=[LD])[(\[].{{0,600}}?[)\]])? (?P<name>{_TEST})(?: - (?P<message>.{{0,2000}}))?$"
            ),
            _OUTCOMES,
        ),
        NamedTestRule(
            re.compile(rf"(?P<name>{_METHOD}) \.\.\. (?P<outcome>ok|FAIL|ERROR|skipped|expected failure)\b"),
            _OF_UNITTEST,
        ),
        # After the name of a failed test come the message and the parameters of a subtest.
        NamedTestRule(
            re.compile(rf"(?P<outcome>FAIL|ERROR): (?P<name>{_METHOD})(?: [\[(].{{0,1000}})?$"), _OF_UNITTEST
        ),
    ),
    failed_lists=(
        # Versions before 6, and options such as -rN, print no summary with the names.
        FailedListRule(
            opens=re.compile(r"={3,} (?:FAILURES|ERRORS) ={3,}$"),
            item=re.compile(
                r"_+ (?!_ )(?:ERROR (?:collecting|at (?:setup|teardown) of) )?(?P<name>[\w./-].{0,600}?) _+$"
            ),
            closes=re.compile(r"={3,} .{1,300} ={3,}$"),
            is_fallback=True,
        ),
    ),
)

"""The log format of .NET: MSBuild, NuGet, and the tests of `dotnet test`, xUnit and MSTest."""

import re

from relab.builds.logs.formats.descriptor import BlockRule, LogFormat, NamedTestRule, ResultRule
from relab.builds.logs.models import LineRole
from relab.builds.models import BuildStatus, BuildTestOutcome

_CODE = r"(?:BC|CS|FS|MSB|NETSDK|NU)\d{3,5}"
_ERROR = rf"(?:\S{{1,300}}+(?: :)? )?(?:fatal )?error {_CODE}: "
"""A path with spaces is not read, because a search for the code in each line takes time."""

FORMAT = LogFormat(
    ".NET",
    rules=(
        BlockRule(
            "command that MSBuild ran",
            re.compile(r"error msb(?:3073|3721|6006): "),
            weight=0.6,
            words=("error",),
            reason_before=True,
        ),
        BlockRule(
            "error of MSBuild",
            re.compile(r"error (?:cs|msb|nu|netsdk|fs|bc)\d{3,5}: "),
            weight=0.95,
            words=("error",),
        ),
        BlockRule(
            "failed test",
            re.compile(
                r"\s+Failed \S.{0,600} \[(?:< )?\d[\d ,.msh]{0,20}\]$|(?:\[xUnit\.net [\d:.]{8,16}\])?\s+[\w.+<>`,]{3,600}+(?:\(.{0,600}\))? \[FAIL\]$"
            ),
            re.compile(
                r"\s*(?:Error Message|Stack Trace):|\s+\S|(?:Expected|Actual): |\[xUnit\.net [\d:.]{8,16}\] {4,}\S"
            ),
            until=re.compile(
                r"\s+(?:Passed|Failed|Skipped) \S.{0,600} \[|(?:Failed|Passed)! |\[xUnit\.net [\d:.]{8,16}\] {4,}\S.{0,600} \[(?:FAIL|SKIP)\]$"
            ),
            bridge=1,
            weight=0.95,
            max_lines=40,
        ),
        BlockRule(
            "result of the tests",
            re.compile(r"(?:Failed|Aborted)! +- |Test Run (?:Failed|Aborted)\.$|Build FAILED\.$"),
            weight=0.3,
            role=LineRole.CONSEQUENCE,
        ),
    ),
    noise=re.compile(
        r"\s+(?:Determining projects to restore|All projects are up-to-date for restore|Restored \S)|\s+[1-9]\d{0,6} Warning\(s\)$|\s+0 Error\(s\)$|Time Elapsed \d"
    ),
    results=(
        ResultRule(re.compile(rf"\s*+{_ERROR}|Build FAILED\.$"), BuildStatus.FAILED),
        ResultRule(re.compile(r"Build succeeded(?: in [\d.]{1,12}s)?\.?$"), BuildStatus.SUCCESS),
        ResultRule(re.compile(r"Time Elapsed (?P<duration>\d{1,4}:\d\d:\d\d)\b"), None),
        # Each project has a line of its own, in any order.
        ResultRule(re.compile(r"(?:Failed|Aborted)! +- Failed: {1,9}\d"), BuildStatus.FAILED),
        ResultRule(re.compile(r"Passed! +- Failed: {1,9}0,"), BuildStatus.SUCCESS, yields_to=(BuildStatus.FAILED,)),
        ResultRule(re.compile(r"Test Run (?:Failed|Aborted)\.$"), BuildStatus.FAILED),
        ResultRule(re.compile(r"Test Run Successful\.$"), BuildStatus.SUCCESS, yields_to=(BuildStatus.FAILED,)),
        ResultRule(re.compile(r"\[xUnit\.net [\d:.]{8,16}\] {4,}\S.{0,600} \[FAIL\]$"), BuildStatus.FAILED),
    ),
    tests=(
        NamedTestRule(
            re.compile(
                r"\s{1,4}(?P<outcome>Passed|Failed|Skipped) (?P<name>\S.{0,600}?) \[(?:< )?(?P<duration>\d{1,9} m?s)(?: \d{1,4} m?s)?\]$"
            ),
            {
                "Passed": BuildTestOutcome.PASSED,
                "Failed": BuildTestOutcome.FAILED,
                "Skipped": BuildTestOutcome.SKIPPED,
            },
        ),
    ),
)

"""The log format of Xcode and Swift's package manager: the results of actions, and of XCTest."""

import re

from relab.builds.logs.formats.descriptor import BlockRule, LogFormat, NamedTestRule, ResultRule
from relab.builds.logs.models import LineRole
from relab.builds.models import BuildStatus, BuildTestOutcome

_ACTION = r"\s*\*\* (?:[A-Z-]{1,30} ){1,3}"
_COMMAND = r"(?:emit-module|compile|link|swift-frontend|swiftc|SwiftCompile) command failed (?:with|due)"

FORMAT = LogFormat(
    "Xcode",
    rules=(
        BlockRule(
            "result of Xcode",
            re.compile(
                rf"{_ACTION}FAILED \*\*$|\s*The following build commands failed:$|error: (?:fatalError$|{_COMMAND})"
            ),
            re.compile(r"\s+\S|\(\d{1,6} failures?\)$"),
            weight=0.3,
            role=LineRole.CONSEQUENCE,
            max_lines=40,
        ),
        BlockRule(
            "error of Xcode",
            re.compile(
                r"\s*xcodebuild: error: \S|error: (?:Build input files? cannot be found|no such module '|Unable to find module|missing required module)"
            ),
            weight=0.9,
        ),
    ),
    noise=re.compile(
        r"\[\d{1,6}/\d{1,6}\] (?:Compiling|Write|Emitting|Linking|Planning)|Building for (?:debugging|production)"
    ),
    results=(
        ResultRule(re.compile(rf"{_ACTION}FAILED \*\*$"), BuildStatus.FAILED),
        ResultRule(re.compile(rf"{_ACTION}SUCCEEDED \*\*$"), BuildStatus.SUCCESS),
        ResultRule(re.compile(rf"\s*xcodebuild: error: \S|error: fatalError$|error: {_COMMAND}"), BuildStatus.FAILED),
        ResultRule(
            re.compile(r"Build complete! \((?P<duration>[\d.]{1,12}s)\)$|Build complete!$"), BuildStatus.SUCCESS
        ),
        ResultRule(re.compile(r"\s*Executed \d{1,7} tests?, with [1-9]\d{0,6} failures?\b"), BuildStatus.FAILED),
        ResultRule(
            re.compile(r"\s*Executed [1-9]\d{0,6} tests?, with (?:\d{1,7} tests? skipped and )?0 failures\b"),
            BuildStatus.SUCCESS,
            yields_to=(BuildStatus.FAILED,),
        ),
    ),
    tests=(
        NamedTestRule(
            re.compile(
                r"Test Case '(?P<name>.{1,400}?)' (?P<outcome>passed|failed|skipped) \((?P<duration>[\d.]{1,12} s)econds\)"
            ),
            {
                "passed": BuildTestOutcome.PASSED,
                "failed": BuildTestOutcome.FAILED,
                "skipped": BuildTestOutcome.SKIPPED,
            },
        ),
    ),
)

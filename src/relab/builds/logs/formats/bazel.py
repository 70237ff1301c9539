"""The log format of Bazel: failed actions, the results of test targets, and of the build."""

import re

from relab.builds.logs.formats.descriptor import BlockRule, LogFormat, NamedTestRule, ResultRule
from relab.builds.logs.models import LineRole
from relab.builds.models import BuildStatus, BuildTestOutcome

FORMAT = LogFormat(
    "Bazel",
    rules=(
        BlockRule(
            "result of the build",
            re.compile(
                r"(?:FAILED|ERROR): Build did NOT complete|Use --verbose_failures|ERROR: Couldn't start the build|ERROR: Analysis of target .{1,300}; build aborted"
            ),
            weight=0.3,
            role=LineRole.CONSEQUENCE,
        ),
        BlockRule(
            "error of Bazel",
            re.compile(
                r"ERROR: (?:/\S{1,300}:\d{1,7}:\d{1,5}: |Skipping '|An error occurred during the fetch of |no such (?:package|target) |Error computing )"
            ),
            re.compile(r"\s+\S|Error in \w{1,60}: "),
            weight=0.9,
            max_lines=40,
        ),
        BlockRule(
            "output of a failed test",
            re.compile(r"={10,} Test output for //\S{1,300}:$"),
            re.compile(r".*\S"),
            until=re.compile(r"={60,}$"),
            bridge=2,
            weight=0.9,
            max_lines=100,
        ),
        BlockRule(
            "failed test target",
            re.compile(r"(?:FAIL|TIMEOUT|FLAKY): //\S{1,300} |//\S{1,300} +(?:FAILED|TIMEOUT)\b"),
            weight=0.8,
        ),
    ),
    noise=re.compile(
        r"INFO: (?:Analyzed |Found \d|Elapsed time: |Build |From |Invocation ID: |Reading |Options |Streaming |Current date |Running command |Repository |\d+ process)"
        r"|Loading: *(?:$|\d)|Analyzing: (?:target |\d)|DEBUG: \S{1,300}:\d|WARNING: Download from|\d{10}\.\d{9}: src/main/tools/|\[[\d,]{1,12} / [\d,]{1,12}\] "
    ),
    results=(
        ResultRule(
            re.compile(r"(?:FAILED|ERROR): Build did NOT complete|INFO: Build completed, \d{1,6} tests? FAILED"),
            BuildStatus.FAILED,
        ),
        ResultRule(re.compile(r"INFO: Build completed successfully"), BuildStatus.SUCCESS),
    ),
    tests=(
        NamedTestRule(
            re.compile(
                r"(?P<name>//\S{1,300}) +(?:\(cached\) )?(?P<outcome>PASSED|FAILED TO BUILD|FAILED|TIMEOUT|FLAKY)\b(?:.{0,60} in (?P<duration>[\d.]{1,12}s))?"
            ),
            {
                "PASSED": BuildTestOutcome.PASSED,
                "FLAKY": BuildTestOutcome.FLAKY,
                **dict.fromkeys(("FAILED", "FAILED TO BUILD", "TIMEOUT"), BuildTestOutcome.FAILED),
            },
        ),
    ),
)

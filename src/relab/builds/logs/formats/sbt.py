"""The log format of sbt: lines with a level in lower case, such as `[error]`, and ScalaTest's failed tests."""

import re

from relab.builds.logs.formats.descriptor import BlockRule, FailedListRule, LogFormat, ResultRule
from relab.builds.logs.models import LineRole
from relab.builds.models import BuildStatus

_TASK = r"\(\S[^()]{0,200}\) "
"""The task that failed, such as `(Test / test)`, or `(*:update)` before sbt 1."""

FORMAT = LogFormat(
    "sbt",
    rules=(
        BlockRule("stack trace of sbt", re.compile(r"\s*\[error\]\s+at \S"), weight=0.2, role=LineRole.CONSEQUENCE),
        BlockRule(
            "end of sbt",
            re.compile(
                rf"\[error\] (?:Total time: |{_TASK}(?:sbt\.TestsFailedException|Compilation failed|.{{0,40}} errors? found)|Failed tests:|(?:Failed|Error): Total \d)"
                r"|\s*Project loading failed: "
            ),
            weight=0.2,
            role=LineRole.CONSEQUENCE,
        ),
        # The look-ahead rejects most lines at their first character.
        BlockRule(
            "dependency that sbt cannot resolve",
            re.compile(
                r"\s*+(?=[\[(su:E])(?:\[(?:error|warn)\]\s+)?(?:\(\S{1,80}\) )?(?:sbt\.(?:librarymanagement\.)?ResolveException: )?(?:unresolved dependency: \S|:: \S{1,300};\S{1,100}: not found$|Error downloading \S)"
            ),
            weight=0.95,
        ),
        BlockRule(
            "failed test of ScalaTest",
            re.compile(r"\s*\[info\] .{1,600} \*\*\* FAILED \*\*\*"),
            re.compile(r"\s*\[info\]  +\S"),
            weight=0.95,
            max_lines=12,
        ),
        BlockRule(
            "error of sbt",
            re.compile(r"\s*\[error\] +\S"),
            re.compile(r"\s*\[error\] {2,}\S"),
            weight=0.9,
            max_lines=40,
        ),
    ),
    noise=re.compile(r"\s*\[(?:info|success|debug)\]|\s*\[warn\]\s+:{4,}$|\s*\[error\] *$"),
    results=(
        ResultRule(re.compile(r"\[error\] Total time: (?P<duration>[\d.]{1,12} s)\b"), BuildStatus.FAILED),
        ResultRule(re.compile(r"\[success\] Total time: (?P<duration>[\d.]{1,12} s)\b"), BuildStatus.SUCCESS),
        ResultRule(re.compile(rf"\s*\[error\] {_TASK}\S|\s*Project loading failed: \(r\)etry"), BuildStatus.FAILED),
    ),
    failed_lists=(
        FailedListRule(
            opens=re.compile(r"\[error\] (?:Failed tests|Error during tests):$"),
            item=re.compile(r"\[error\] \t(?P<name>[\w.$]{1,300})$"),
            closes=re.compile(r"\[error\] \S|(?!\[error\])"),
        ),
    ),
)

"""The log format of BitBake, which builds Yocto images: tasks of recipes and the summary."""

import re

from relab.builds.logs.formats.descriptor import BlockRule, LogFormat, ResultRule
from relab.builds.logs.models import LineRole
from relab.builds.models import BuildStatus

FORMAT = LogFormat(
    "BitBake",
    rules=(
        BlockRule(
            "failed task",
            re.compile(
                r"ERROR: (?:Task (?:\d{1,7} )?\(.{1,600}\) failed with exit code '|Logfile of failure stored in: |(?:\S{1,200} do_\w{1,60}: )?Function failed: \w{1,60}(?:$| \(log))"
            ),
            weight=0.25,
            role=LineRole.CONSEQUENCE,
        ),
        BlockRule(
            "error of a task",
            re.compile(
                r"(?:\| )?ERROR: (?:\S{1,200} do_\w{1,60}: |(?:Function failed: )?Fetcher failure\b|Nothing (?:R?PROVIDES|provides) |Multiple \.bb files|ParseError |Unable to (?:parse|start) )"
            ),
            re.compile(
                r"(?:failed|fatal|\| (?:fatal|error)): \S|(?:\| )?\S{1,300}:\d{1,7}(?::\d{1,6})?: (?:fatal )?error: "
            ),
            bridge=1,
            weight=0.95,
            max_lines=40,
        ),
    ),
    noise=re.compile(
        r"NOTE: (?:Executing|Running|recipe|Tasks Summary|Resolving|Preparing)|Sstate summary: |Initialising tasks: |Summary: There (?:was|were) \d|WARNING: .{1,300}attempting MIRRORS"
    ),
    results=(
        ResultRule(
            re.compile(
                r"NOTE: Tasks Summary: .{1,200} and [1-9]\d{0,6} failed\.$|Summary: [1-9]\d{0,6} tasks? failed:$"
            ),
            BuildStatus.FAILED,
        ),
        ResultRule(re.compile(r"NOTE: Tasks Summary: .{1,200} and all succeeded\.$"), BuildStatus.SUCCESS),
        ResultRule(
            re.compile(r"ERROR: Task (?:\d{1,7} )?\(.{1,600}\) failed with exit code '[1-9]"), BuildStatus.FAILED
        ),
    ),
)

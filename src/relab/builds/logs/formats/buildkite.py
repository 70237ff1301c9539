"""The log format of Buildkite: groups of output, and the exit status of the command."""

import re

from relab.builds.logs.formats.descriptor import BlockRule, LogFormat, ResultRule
from relab.builds.logs.models import LineRole
from relab.builds.models import BuildStatus

FORMAT = LogFormat(
    "Buildkite",
    ci="buildkite",
    ci_sign=re.compile(r"~~~ (?:Running (?:agent|global|commands?|plugin)|Preparing (?:working directory|plugins))"),
    rules=(
        BlockRule(
            "result of the command",
            re.compile(r"🚨 Error: The (?:command|plugin|global|local) .{0,200}exited with|user command error: "),
            weight=0.2,
            role=LineRole.CONSEQUENCE,
        ),
        BlockRule("error of the agent", re.compile(r"🚨 Error: \S")),
    ),
    noise=re.compile(r"~~~ |\^\^\^ \+\+\+"),
    step_starts=re.compile(r"~~~ Running commands?$"),
    step_fails=re.compile(r"🚨 Error: The .{0,200}exited with status"),
    results=(
        ResultRule(
            re.compile(r"🚨 Error: The command was (?:cancell?ed|interrupted)"), BuildStatus.INTERRUPTED, is_final=True
        ),
        ResultRule(re.compile(r"🚨 Error: "), BuildStatus.FAILED, is_final=True),
    ),
)

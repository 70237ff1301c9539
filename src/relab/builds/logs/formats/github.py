"""The log format of GitHub Actions: annotations, groups, and the exit code of a step."""

import re

from relab.builds.logs.formats.descriptor import BlockRule, LogFormat, ResultRule
from relab.builds.models import BuildStatus

_EXIT = (
    r"(?:##\[error\](?:Error: )?|Error: (?=Process completed with exit code \d{1,10}\.$))(?:Process completed with exit code|The process .{1,300} failed with exit code|Node run failed"
    r"|(?:Bash|Cmd\.exe|PowerShell) exited with code)"
)
"""How a step failed, without the reason; the last form is that of Azure Pipelines."""

FORMAT = LogFormat(
    "GitHub Actions",
    ci="github",
    ci_sign=re.compile(r"##\[(?:group|endgroup|error|warning|debug|command)\]"),
    rules=(
        BlockRule(
            "a signal ended the step",
            re.compile(
                r"##\[error\](?:Process completed with exit code |(?:Bash|Cmd\.exe|PowerShell) exited with code ')(?:124|13[0-9]|14[0-3])\b"
            ),
        ),
        BlockRule("error annotation", re.compile(rf"(?!{_EXIT})(?:##\[error\]|::error[ :])"), weight=0.95),
    ),
    noise=re.compile(
        rf"{_EXIT}|##\[(?:group|endgroup|command|debug|section|add-matcher|remove-matcher)\]|\[command\]|Post job cleanup"
        r"|Cleaning up orphan|Terminate orphan process|Temporarily overriding HOME|Adding repository directory to the temp"
    ),
    step_starts=re.compile(r"##\[group\]Run "),
    step_fails=re.compile(_EXIT),
    results=(
        ResultRule(
            re.compile(r"##\[error\]The (?:operation was|job running on runner .{1,300} has been) cancell?ed"),
            BuildStatus.INTERRUPTED,
            is_final=True,
        ),
        ResultRule(re.compile(r"##\[error\]"), BuildStatus.FAILED, is_final=True),
        # As GitHub shows the log in the browser.
        ResultRule(
            re.compile(r"Error: Process completed with exit code [1-9]\d{0,9}\.$"), BuildStatus.FAILED, is_final=True
        ),
        ResultRule(re.compile(r"Cleaning up orphan processes"), BuildStatus.SUCCESS, is_final=True, is_default=True),
    ),
)

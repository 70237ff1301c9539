"""The log format of Jenkins: errors of plugins, and the steps that mark a build as failed."""

import re

from relab.builds.logs.formats.descriptor import BlockRule, LogFormat, ResultRule
from relab.builds.logs.models import LineRole
from relab.builds.models import BuildStatus

FORMAT = LogFormat(
    "Jenkins",
    ci="jenkins",
    ci_sign=re.compile(r"\[Pipeline\] "),
    rules=(
        BlockRule(
            "step after the build failed too",
            re.compile(
                r"ERROR: Step .{1,200} (?:failed|aborted)\b(?!.{0,200}due to exception)|Build step '.{1,200}' (?:marked|changed) build"
            ),
            weight=0.3,
            role=LineRole.CONSEQUENCE,
        ),
        BlockRule(
            "result of a shell step",
            re.compile(r"ERROR: script returned exit code \d{1,10}$|Stage \".{1,200}\" skipped due to"),
            weight=0.2,
            role=LineRole.CONSEQUENCE,
        ),
        BlockRule(
            "error of a Jenkins plugin",
            re.compile(r"(?:FATAL|ERROR): "),
            re.compile(
                r"\s+at |Caused(?: by)?: |Also: |std(?:out|err): |\s+\.\.\. \d+ more|[a-z][\w$]*(?:\.[\w$]+)+(?:Exception|Error)\b"
            ),
            bridge=4,
        ),
    ),
    noise=re.compile(
        r" > \S{0,40}git |Sending e-mails|Finished: |\[WS-CLEANUP\]|Archiving artifacts|Recording test|\[Pipeline\]|GitHub Issue Notifier|Email was triggered"
    ),
    step_fails=re.compile(
        r"Build step '.{1,200}' marked build as failure|Stage \".{1,200}\" skipped due to earlier failure"
    ),
    results=(
        ResultRule(re.compile(r"Finished: SUCCESS"), BuildStatus.SUCCESS, is_final=True),
        ResultRule(re.compile(r"Finished: (?:FAILURE|UNSTABLE)"), BuildStatus.FAILED, is_final=True),
        ResultRule(re.compile(r"ERROR: Error (?:cloning remote repo|fetching remote repo)\b"), BuildStatus.FAILED),
        ResultRule(re.compile(r"Finished: (?:ABORTED|NOT_BUILT)"), BuildStatus.INTERRUPTED, is_final=True),
    ),
)

"""The log format of tox: the commands of each environment, and their results."""

import re

from relab.builds.logs.formats.descriptor import BlockRule, LogFormat, ResultRule
from relab.builds.logs.models import LineRole
from relab.builds.models import BuildStatus

_ENVIRONMENT = r"[\w.,+-]{1,100}+: "

FORMAT = LogFormat(
    "tox",
    rules=(
        BlockRule(
            "environment that cannot be used",
            re.compile(
                rf"{_ENVIRONMENT}(?:failed with (?!(?:exit|status|code|error|signal)\b|\d)\S|Exception running subprocess )"
            ),
            weight=0.9,
        ),
        BlockRule(
            "error of tox",
            re.compile(r"[\w.-]{1,100}+: HandledError\| \S"),
            re.compile(r"\s+\S"),
            weight=0.9,
            max_lines=20,
        ),
        BlockRule(
            "result of an environment",
            re.compile(
                rf"\s*{_ENVIRONMENT}(?:FAIL (?:code \d|[✔✖✓])|exit -?\d{{1,10}} \()|\s+evaluation failed :\(|ERROR: {{1,4}}\S{{1,100}}: (?:commands failed|parallel child exit code)"
            ),
            weight=0.2,
            role=LineRole.CONSEQUENCE,
        ),
    ),
    noise=re.compile(rf"\s*{_ENVIRONMENT}(?:OK\b|install_\w{{1,40}}> |recreate env )|\.pkg: "),
    step_starts=re.compile(rf"{_ENVIRONMENT}(?:commands(?:_pre|_post)?\[\d{{1,4}}\]|install_\w{{1,40}})> "),
    step_fails=re.compile(rf"{_ENVIRONMENT}exit -?[1-9]\d{{0,9}} \([\d.]{{1,12}} seconds\)"),
    step_tolerated=re.compile(rf"{_ENVIRONMENT}command failed but is marked ignore outcome"),
    results=(
        ResultRule(
            re.compile(r"\s+evaluation failed :\((?: \((?P<duration>[\d.]{1,12} s)econds\))?"),
            BuildStatus.FAILED,
            is_outer=True,
        ),
        ResultRule(
            re.compile(r"\s+congratulations :\)(?: \((?P<duration>[\d.]{1,12} s)econds\))?"),
            BuildStatus.SUCCESS,
            is_outer=True,
        ),
        ResultRule(re.compile(r"[\w.-]{1,100}+: HandledError\| "), BuildStatus.FAILED),
        # tox 3, in its summary; it prints `congratulations` too.
        ResultRule(
            re.compile(
                r"ERROR: {1,4}\S{1,100}: (?:commands failed|InvocationError|InterpreterNotFound|parallel child exit code [1-9])"
            ),
            BuildStatus.FAILED,
        ),
        ResultRule(
            re.compile(r"  \S{1,100}: commands succeeded$"), BuildStatus.SUCCESS, yields_to=(BuildStatus.FAILED,)
        ),
    ),
)

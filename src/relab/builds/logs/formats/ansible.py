"""The log format of Ansible: tasks of a play, the recap of its hosts, and ansible-lint."""

import re

from relab.builds.logs.formats.descriptor import BlockRule, LogFormat, ResultRule
from relab.builds.models import BuildStatus

_HOST = r"\S{1,200}+ +: ok=\d{1,6} +changed=\d{1,6} +"

FORMAT = LogFormat(
    "Ansible",
    rules=(
        BlockRule("failed task", re.compile(r"(?:fatal|failed): \[.{1,200}\](?: \(item=.{1,300}\))?: "), weight=0.95),
        BlockRule(
            "error of Ansible",
            re.compile(r"(?:\[ERROR\]: |ERROR! )(?!Task failed)\S"),
            re.compile(r"Origin: |\d+ |\s+\^"),
            bridge=1,
            weight=0.9,
            max_lines=12,
        ),
    ),
    noise=re.compile(r"(?:ok|changed|skipping|included): \[|PLAY (?:RECAP )?\W"),
    step_starts=re.compile(r"(?:TASK|RUNNING HANDLER) \[.{1,300}\] \*{3,}$"),
    step_fails=re.compile(r"fatal: \[.{1,200}\]: (?:FAILED|UNREACHABLE)!"),
    step_tolerated=re.compile(r"\.\.\.ignoring$"),
    results=(
        ResultRule(re.compile(rf"{_HOST}unreachable=(?:[1-9]\d{{0,5}} +failed=|0 +failed=[1-9])"), BuildStatus.FAILED),
        ResultRule(
            re.compile(rf"{_HOST}unreachable=0 +failed=0\b"), BuildStatus.SUCCESS, yields_to=(BuildStatus.FAILED,)
        ),
        ResultRule(re.compile(r"Failed: [1-9]\d{0,8} failure\(s\), \d"), BuildStatus.FAILED),
        ResultRule(re.compile(r"Passed: 0 failure\(s\), \d"), BuildStatus.SUCCESS),
    ),
)

"""The log format of tools that deploy: Terraform, Helm and kubectl."""

import re

from relab.builds.logs.formats.descriptor import BlockRule, LogFormat, ResultRule
from relab.builds.logs.models import LineRole
from relab.builds.models import BuildStatus

_HELM = r"Error: (?:INSTALLATION|UPGRADE|UNINSTALLATION|ROLLBACK) FAILED: |Error: (?:.{1,200}: )?timed out waiting for the condition$"

FORMAT = LogFormat(
    "deployment",
    rules=(
        BlockRule(
            "error of Terraform",
            re.compile(r"\u2502 Error: \S"),
            re.compile(r"\u2502"),
            until=re.compile(r"\u2502 (?:Terraform|OpenTofu) acquires a state lock|\u2575"),
            weight=0.95,
            max_lines=60,
        ),
        BlockRule(
            "advice of Terraform",
            re.compile(r"\u2502 (?:Warning: |(?:Terraform|OpenTofu) acquires a state lock)"),
            re.compile(r"\u2502"),
            weight=0.2,
            role=LineRole.CONSEQUENCE,
            max_lines=60,
        ),
        BlockRule("error of Helm", re.compile(_HELM), weight=0.95),
        BlockRule(
            "error of kubectl",
            re.compile(
                r"[Ee]rror from server(?: \(\w{1,60}\))?: \S|error: timed out waiting for the condition on \S|error: deployment .{1,200} exceeded its progress deadline"
            ),
            weight=0.95,
        ),
    ),
    headers=re.compile(r"\u2577$"),
    noise=re.compile(
        r"\S{1,300}+ (?:Refreshing state|Still (?:creating|destroying|modifying))\.\.\.|- (?:Installing|Finding|Reusing) \S|[\u2577\u2575]$"
    ),
    results=(
        ResultRule(re.compile(r"\u2502 Error: \S"), BuildStatus.FAILED),
        ResultRule(
            re.compile(r"(?:Apply|Destroy) complete! Resources: \d|Plan: \d{1,7} to (?:add|import), \d"),
            BuildStatus.SUCCESS,
        ),
        ResultRule(re.compile(_HELM), BuildStatus.FAILED),
        ResultRule(
            re.compile(
                r"error: timed out waiting for the condition on \S|error: deployment .{1,200} exceeded its progress deadline$"
            ),
            BuildStatus.FAILED,
        ),
        ResultRule(re.compile(r"STATUS: deployed$"), BuildStatus.SUCCESS, follows=re.compile(r"NAME: \S"), within=4),
    ),
)

"""The log format of SCons, and of Python's package managers besides pip: uv, Poetry, PDM and Hatch."""

import re

from relab.builds.logs.formats.descriptor import BlockRule, LogFormat, ResultRule
from relab.builds.models import BuildStatus

_UV = r"(?:error: |  \xd7 )(?:No solution found when resolving|The lockfile at |No interpreter found for |Failed to (?:build|download|fetch|resolve|parse) [`\w])"

FORMAT = LogFormat(
    "packages of Python",
    rules=(
        BlockRule("error of uv", re.compile(_UV), re.compile(r"\s+\S|hint: "), bridge=1, weight=0.95, max_lines=20),
        BlockRule(
            "error of Poetry",
            re.compile(
                r"\s{0,4}(?:Because|And because|So, because) .{1,500}(?:version solving failed\.|doesn't match any versions)|Package \S{1,100} \(.{1,60}\) not found\.$|pyproject\.toml changed significantly since poetry\.lock"
            ),
            weight=0.95,
        ),
        BlockRule(
            "error of PDM",
            re.compile(r"\[\w{1,80}(?:Error|Failure|Impossible|NotFound|Exception)\]: \S"),
            re.compile(r"\s+\S"),
            weight=0.9,
            max_lines=12,
        ),
        BlockRule("error of SCons", re.compile(r"scons: \*\*\* (?!\[.{1,300}\] Error \d)\S"), weight=0.95),
        BlockRule(
            "failed target of SCons", re.compile(r"scons: \*\*\* \[.{1,300}\] Error \d"), weight=0.7, reason_before=True
        ),
    ),
    noise=re.compile(r"Using C?Python \d|Resolved \d+ packages? in |scons: (?:Reading|done reading|Building)"),
    results=(
        ResultRule(re.compile(_UV), BuildStatus.FAILED),
        ResultRule(
            re.compile(
                r"\s{0,4}(?:Because|So, because) .{1,800} version solving failed\.$|Package \S{1,100} \(.{1,60}\) not found\.$|pyproject\.toml changed significantly since poetry"
            ),
            BuildStatus.FAILED,
        ),
        ResultRule(
            re.compile(r"\[\w{1,80}(?:Error|Failure|Impossible|NotFound|Exception)\]: \S"),
            BuildStatus.FAILED,
            follows=re.compile(r"See \S{1,300}/pdm-\w"),
            within=2,
        ),
        # An installation that was repeated.
        ResultRule(
            re.compile(r"(?:Installed|Audited) \d{1,9} packages? in \d"),
            BuildStatus.UNKNOWN,
            only_after=BuildStatus.FAILED,
        ),
        ResultRule(
            re.compile(
                r"scons: (?:building terminated because of errors\.|done building targets \(errors occurred during build\)\.)$"
            ),
            BuildStatus.FAILED,
        ),
        ResultRule(re.compile(r"scons: done building targets\.$"), BuildStatus.SUCCESS),
        ResultRule(
            re.compile(r"Successfully built (?:\S{1,300}\.tar\.gz and )?\S{1,300}\.(?:whl|tar\.gz)$"),
            BuildStatus.SUCCESS,
        ),
    ),
)

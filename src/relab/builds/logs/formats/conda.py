"""The log format of conda and mamba: environments that cannot be solved."""

import re

from relab.builds.logs.formats.descriptor import BlockRule, LogFormat, ResultRule
from relab.builds.models import BuildStatus

_ERROR = (
    r"(?:PackagesNotFoundError|(?:LibMamba)?UnsatisfiableError|ResolvePackageNotFound|CondaHTTPError|CondaValueError|CondaVerificationError"
    r"|ChecksumMismatchError|EnvironmentLocationNotFound|SpecsConfigurationConflictError|InvalidMatchSpec|NoWritablePkgsDirError):"
)

FORMAT = LogFormat(
    "Conda",
    rules=(
        BlockRule("error of conda", re.compile(_ERROR), re.compile(r"\s+\S"), bridge=1, weight=0.95, max_lines=40),
        BlockRule(
            "error of mamba",
            re.compile(r"error {4}libmamba \S|Could not solve for environment specs"),
            re.compile(r"\s+\S|The following packages? "),
            weight=0.95,
            max_lines=40,
        ),
    ),
    noise=re.compile(
        r"Collecting package metadata|Solving environment: (?!failed$)|(?:Preparing|Verifying|Executing) transaction: "
    ),
    results=(
        ResultRule(re.compile(_ERROR), BuildStatus.FAILED),
        ResultRule(
            re.compile(r"critical libmamba \S|error {4}libmamba Could not solve for environment"), BuildStatus.FAILED
        ),
        # An installation that was repeated.
        ResultRule(
            re.compile(r"Executing transaction: (?:\S )?done$"), BuildStatus.UNKNOWN, only_after=BuildStatus.FAILED
        ),
    ),
)

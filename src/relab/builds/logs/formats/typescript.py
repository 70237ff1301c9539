"""The log format of TypeScript's compiler and ESLint."""

import re

from relab.builds.logs.formats.descriptor import BlockRule, LogFormat, ResultRule
from relab.builds.models import BuildStatus

FORMAT = LogFormat(
    "TypeScript",
    rules=(
        BlockRule(
            "compiler error",
            re.compile(r"[\w./@-]{1,300}\.[cm]?[jt]sx?(?:\(\d+,\d+\): error|:\d+:\d+ - error)|error TS\d+"),
            re.compile(r"\s+\S|\d+\s+\S"),
            bridge=1,
            weight=0.95,
            max_lines=12,
        ),
        BlockRule("finding of ESLint or Stylelint", re.compile(r"\s+\d+:\d+\s+(?:error|✖)\s"), weight=0.9),
    ),
    results=(
        ResultRule(
            re.compile(
                r"[\w./@-]{1,300}+(?:\(\d+,\d+\): error| ?:\d+:\d+ - error) TS\d|error TS\d{1,6}: |Found [1-9]\d{0,8} errors? in \S"
            ),
            BuildStatus.FAILED,
        ),
    ),
)

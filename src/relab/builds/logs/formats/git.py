"""The log format of Git: failed fetches and checkouts, and differences of files."""

import re

from relab.builds.logs.formats.descriptor import BlockRule, LogFormat

FORMAT = LogFormat(
    "git",
    rules=(
        BlockRule(
            "error of git",
            re.compile(r"(?:fatal|error): (?!Process completed)\S|CONFLICT \("),
            re.compile(r"(?:fatal|hint): |\t\S"),
            bridge=2,
            weight=0.85,
        ),
        BlockRule(
            "difference of files",
            re.compile(r"diff (?:--git |-[ur]\S* )"),
            re.compile(
                r"index |--- |\+\+\+ |@@|[ +\\-]|similarity |rename |(?:new|deleted) file|old mode|new mode|diff "
            ),
            weight=0.6,
            max_lines=500,
        ),
    ),
    noise=re.compile(
        r"remote: (?:Counting|Compressing|Enumerating|Total)|(?:Receiving objects|Resolving deltas|Unpacking objects|Updating files):"
    ),
)

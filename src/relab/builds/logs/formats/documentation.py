"""The log format of generators of documentation: Sphinx and MkDocs."""

import re

from relab.builds.logs.formats.descriptor import BlockRule, LogFormat, ResultRule
from relab.builds.models import BuildStatus

FORMAT = LogFormat(
    "documentation",
    rules=(
        BlockRule(
            "error of Sphinx",
            re.compile(
                r"(?:Extension|Configuration|Theme|Application|Sphinx|Handler) error(?:!|:)$|\S{1,300}:(?:\d{1,7}:)? (?:ERROR|CRITICAL|SEVERE): \S"
            ),
            re.compile(r"\S"),
            weight=0.9,
            max_lines=3,
        ),
        BlockRule(
            "warning of Sphinx",
            re.compile(r"\S{1,300}\.(?:rst|md|txt|py|ipynb):(?:\d{1,7}:|.{0,300}:docstring.{0,300}:)? WARNING: \S"),
            weight=0.7,
        ),
        BlockRule("warning of MkDocs", re.compile(r"(?:WARNING|ERROR) +-  \S"), weight=0.7),
    ),
    headers=re.compile(r"(?:Extension|Configuration|Theme|Application|Sphinx|Handler) error(?:!|:)$"),
    noise=re.compile(
        r"(?:loading|building|writing|reading|copying|checking|pickling|updating|preparing|dumping|generating) [\w \[\]()-]{1,80}(?:\.\.\.|:)|INFO +-  "
    ),
    results=(
        ResultRule(re.compile(r"build succeeded(?:, \d{1,9} warnings?)?\.$"), BuildStatus.SUCCESS),
        ResultRule(
            re.compile(
                r"build finished with problems|(?:Extension|Configuration|Theme|Sphinx) error(?:!|:)$|Warning, treated as error:$"
            ),
            BuildStatus.FAILED,
        ),
        ResultRule(
            re.compile(r"Aborted with (?:[1-9]\d{0,8} warnings|a (?:configuration|build) error)\b|Aborted with [1-9]"),
            BuildStatus.FAILED,
        ),
        ResultRule(
            re.compile(r"INFO +-  Documentation built in (?P<duration>[\d.]{1,12} s)econds$"), BuildStatus.SUCCESS
        ),
    ),
)

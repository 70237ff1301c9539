"""The log format of type checkers: ty, Pyrefly and svelte-check."""

import re

from relab.builds.logs.formats.descriptor import BlockRule, LogFormat, ResultRule
from relab.builds.models import BuildStatus

_TY = r"error\[[a-z]{2,40}(?:-[a-z]{1,40}){0,8}\]: \S"

FORMAT = LogFormat(
    "type checkers",
    rules=(
        BlockRule(
            "error of ty",
            re.compile(_TY),
            re.compile(r" *(?:-->|\d+ \||\||\.\.\.)|info: |help: "),
            weight=0.9,
            max_lines=20,
        ),
        BlockRule(
            "error of Pyrefly",
            re.compile(r"ERROR \S.{0,1000} \[[a-z-]{3,60}\]$"),
            re.compile(r" *(?:-->|\d+ \||\|)|  \S"),
            weight=0.9,
            max_lines=20,
        ),
        BlockRule(
            "error of svelte-check",
            re.compile(r"Error: \S.{0,1000} \((?:ts|js|svelte|css|postcss|scss|less)\)$"),
            weight=0.9,
        ),
    ),
    noise=re.compile(r" WARN PYTHONPATH environment variable is set|No `pyrefly\.toml` found"),
    results=(
        ResultRule(re.compile(_TY), BuildStatus.FAILED),
        ResultRule(re.compile(r" INFO [1-9]\d{0,8} errors?(?: \(.{1,80}\))?$"), BuildStatus.FAILED),
        ResultRule(re.compile(r" INFO 0 errors(?: \(.{1,80}\))?$"), BuildStatus.SUCCESS),
        ResultRule(re.compile(r"svelte-check found [1-9]\d{0,8} errors? "), BuildStatus.FAILED),
        ResultRule(re.compile(r"svelte-check found 0 errors "), BuildStatus.SUCCESS),
    ),
)

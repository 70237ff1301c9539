"""The log format of linters that print findings in their own form: Ruff, Biome, RuboCop, ShellCheck and Sphinx."""

import re

from relab.builds.logs.formats.descriptor import BlockRule, LogFormat, ResultRule
from relab.builds.models import BuildStatus

FORMAT = LogFormat(
    "linters",
    rules=(
        BlockRule(
            "finding of Ruff",
            re.compile(r"(?!SHA|ISO|RFC)[A-Z]{1,4}\d{3,4} (?:\[\*\] )?[`A-Z]"),
            re.compile(r"\s+\S|\d+ \||help: "),
            weight=0.7,
            max_lines=20,
        ),
        BlockRule(
            "finding of Pyright",
            re.compile(r" {2}\S{1,300}:\d{1,7}:\d{1,6} - error: \S"),
            re.compile(r" {4,}\S"),
            weight=0.9,
        ),
        BlockRule(
            "finding of Biome",
            re.compile(r"\S{1,300}+ (?:(?:lint|assist)/\w{1,40}/\w{1,80}|format|parse) +(?:FIXABLE +)?━"),
            re.compile(r"\s+\S"),
            bridge=2,
            weight=0.8,
            max_lines=30,
        ),
        BlockRule(
            "finding of RuboCop",
            re.compile(r"\S{1,300}:\d+:\d+: [CWEFR]: (?:\[\w{1,40}\] )?[A-Z]\w{1,60}/\w"),
            re.compile(r"\s*\S{1,400}$|\s+\S|\s*\^+$"),
            weight=0.9,
            max_lines=3,
        ),
        BlockRule("result of RuboCop", re.compile(r"\d+ files? inspected, \d+ offenses? detected"), weight=0.6),
        BlockRule("finding of ShellCheck", re.compile(r"In \S{1,300} line \d+:$"), re.compile(r".*\S"), weight=0.8),
        BlockRule(
            "warning of Sphinx taken for an error",
            re.compile(r"Warning, treated as error:$"),
            re.compile(r"\S{1,400}:(?:\d+:)? ?\S"),
            weight=0.8,
            max_lines=2,
        ),
    ),
    results=(
        # Ruff, mypy, and ESLint.
        ResultRule(
            re.compile(
                r"Found [1-9]\d{0,8} errors?(?: \((?!.{1,60}, 0 remaining\)).{1,80}\)| in \d{1,9} files?\b.{0,80})?\.?$"
            ),
            BuildStatus.FAILED,
        ),
        ResultRule(
            re.compile(
                r"(?:\d{1,9} files? (?:left unchanged|reformatted), ){0,2}[1-9]\d{0,8} files? (?:would (?:be reformatted|fail to reformat)\b|failed to reformat\.$)"
            ),
            BuildStatus.FAILED,
        ),
        ResultRule(
            re.compile(r"All checks passed!$|Success: no issues found in \d{1,9} source files?$"), BuildStatus.SUCCESS
        ),
        # Black, and Pyright.
        ResultRule(
            re.compile(
                r"All done! ✨|\d{1,9} files? would be left unchanged\.$|0 errors, \d{1,9} warnings?, \d{1,9} (?:notes?|informations?)\b"
            ),
            BuildStatus.SUCCESS,
        ),
        ResultRule(
            re.compile(r"[1-9]\d{0,8} errors?, \d{1,9} warnings?, \d{1,9} (?:notes?|informations?)\b"),
            BuildStatus.FAILED,
        ),
        # ESLint and yamllint.
        ResultRule(re.compile(r" {2,}\d{1,7}:\d{1,6} {2,}error {2,}\S"), BuildStatus.FAILED),
        ResultRule(re.compile(r"Oops! Something went wrong! :\($"), BuildStatus.FAILED),
        ResultRule(re.compile(r"✖ \d{1,9} problems? \([1-9]\d{0,8} errors?, "), BuildStatus.FAILED),
    ),
)

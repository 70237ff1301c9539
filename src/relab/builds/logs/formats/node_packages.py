"""The log format of package managers of Node.js other than npm: Yarn (version 2 or later), pnpm, and Bun with its tests."""

import re

from relab.builds.logs.formats.descriptor import BlockRule, LogFormat, NamedTestRule, ResultRule
from relab.builds.logs.models import LineRole
from relab.builds.models import BuildStatus, BuildTestOutcome

_NO_ERRORS = r"00(?:00|02|03|05|06|07|08|13|19|32|33|50|55|60|61|62|66|68|69|74|75|76|77|84|85|86|87|88|90)"
"""Codes of Yarn's notices and warnings. It prints the level of a message only by colour."""

FORMAT = LogFormat(
    "packages of Node.js",
    rules=(
        # A lock file that would change is quoted as a difference before its message.
        BlockRule(
            "error of Yarn",
            re.compile(rf"➤ YN(?!{_NO_ERRORS}:)\d{{4}}: [│·┌└ ]{{1,6}}(?![ +@-])\S"),
            re.compile(r"➤ YN\d{4}: │ {3,}\S"),
            weight=0.9,
            max_lines=12,
        ),
        BlockRule(
            "output of an installed package",
            re.compile(r"➤ YN0000: │ .{1,300}? STDERR (?:[A-Z]\w{0,60})?Error: \S"),
            weight=0.9,
        ),
        BlockRule(
            "end of Yarn",
            re.compile(r"(?:➤ YN0000: [·└ ]{1,4})?Failed with errors in \d|The command failed in workspace \S"),
            weight=0.2,
            role=LineRole.CONSEQUENCE,
        ),
        BlockRule("error of Yarn", re.compile(r"(?:Usage|Internal) Error: \S"), weight=0.9),
        BlockRule(
            "error of pnpm",
            re.compile(r"\s?\[?ERR_PNPM_\w"),
            re.compile(r"\s{2,}\S"),
            bridge=2,
            weight=0.9,
            max_lines=12,
        ),
        BlockRule(
            "error of Bun",
            re.compile(
                r'error: (?:No version matching "|GET http|Could not resolve: "|Script not found "|lockfile had changes|.{1,300} failed to resolve$)'
            ),
            re.compile(r"note: |\s+at "),
            weight=0.95,
            max_lines=12,
        ),
        BlockRule(
            "failed test of Bun",
            re.compile(r"error: expect\("),
            re.compile(r".*\S"),
            until=re.compile(r"\((?:fail|pass|skip|todo)\) "),
            bridge=1,
            weight=0.95,
            max_lines=40,
        ),
    ),
    noise=re.compile(
        rf"➤ YN{_NO_ERRORS}: (?!.{{1,300}}STDERR)|Progress: resolved \d|\(pass\) |# Unhandled error between tests$|Command \S{{1,200}} not found\.$"
    ),
    results=(
        ResultRule(re.compile(r"➤ YN0000: [·└ ]{1,4}Failed with errors\b"), BuildStatus.FAILED),
        ResultRule(
            re.compile(r"(?:Usage|Internal) Error: \S|The command failed in workspace \S{1,300} with exit code [1-9]"),
            BuildStatus.FAILED,
        ),
        ResultRule(re.compile(r"\s?\[?ERR_PNPM_\w|\s?ELIFECYCLE\s{1,4}Command failed"), BuildStatus.FAILED),
        ResultRule(
            re.compile(
                r'error: (?:script ".{1,200}" exited with code [1-9]|Script not found "|lockfile had changes, but|.{1,300} failed to resolve$|Could not resolve: ")'
            ),
            BuildStatus.FAILED,
        ),
        # An installation that was repeated.
        ResultRule(
            re.compile(
                r"➤ YN0000: [·└ ]{1,4}Done(?: with warnings)? in \d|Done in [\d.]{1,12}m?s(?: using pnpm v\S{1,40})?$"
            ),
            BuildStatus.UNKNOWN,
            only_after=BuildStatus.FAILED,
        ),
        ResultRule(
            re.compile(r" [1-9]\d{0,8} fail$"),
            BuildStatus.FAILED,
            follows=re.compile(r" \d{1,9} (?:pass|skip|todo)$"),
            within=3,
        ),
        # An error outside of all tests fails the run, too.
        ResultRule(re.compile(r" [1-9]\d{0,8} errors?$"), BuildStatus.FAILED, follows=re.compile(r" \d{1,9} fail$")),
        ResultRule(re.compile(r" 0 fail$"), BuildStatus.SUCCESS, follows=re.compile(r" [1-9]\d{0,8} pass$"), within=3),
    ),
    tests=(
        NamedTestRule(
            re.compile(
                r"\((?P<outcome>pass|fail|skip|todo)\) (?P<name>\S.{0,600}?)(?: \[(?P<duration>[\d.]{1,12}m?s)\])?$"
            ),
            {
                "pass": BuildTestOutcome.PASSED,
                "fail": BuildTestOutcome.FAILED,
                **dict.fromkeys(("skip", "todo"), BuildTestOutcome.SKIPPED),
            },
        ),
    ),
)

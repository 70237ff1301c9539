"""The log format of linters from npm: Prettier, Oxlint, Standard, markdownlint, CSpell, commitlint, HTMLHint and Knip."""

import re

from relab.builds.logs.formats.descriptor import BlockRule, LogFormat, ResultRule
from relab.builds.models import BuildStatus

_FOUND = r"Un(?:used|listed|resolved) (?:files|dependencies|devDependencies|binaries|exports|exported types|exported enum members|class members|optional peerDependencies|imports) \([1-9]\d{0,6}\)$"
"""The title of a list of Knip."""

FORMAT = LogFormat(
    "linters from npm",
    rules=(
        BlockRule("file that Prettier would change", re.compile(r"\[warn\] \S{1,400}\.\w{1,12}$"), weight=0.7),
        BlockRule(
            "file that Prettier cannot parse",
            re.compile(r"\[error\] \S{1,400}: \w{0,40}Error: "),
            re.compile(r"\[error\] "),
            weight=0.95,
            max_lines=12,
        ),
        BlockRule(
            "finding of Standard",
            re.compile(r" {2}[^\s:]{1,400}+:\d{1,7}:\d{1,6}: \S.{0,400} \([\w@/-]{1,80}\)$"),
            weight=0.9,
        ),
        BlockRule("result of Standard", re.compile(r"standard: Use JavaScript Standard Style "), weight=0.6),
        BlockRule(
            "finding of markdownlint or CSpell",
            re.compile(
                r"[^\s:]{1,400}+:\d{1,7}(?::\d{1,6})? (?:(?:error )?MD\d{3}/\S|- (?:Unknown|Forbidden|Misspelled) word \()"
            ),
            weight=0.9,
        ),
        BlockRule("finding of commitlint", re.compile(r"✖ {3}\S.{0,300} \[[a-z-]{3,60}\]$"), weight=0.9),
        BlockRule(
            "finding of HTMLHint",
            re.compile(r"\s{2,20}\^ \S.{0,400} \([a-z-]{2,60}\)$"),
            weight=0.9,
        ),
        BlockRule(
            "finding of Knip",
            re.compile(_FOUND),
            re.compile(r"\S"),
            weight=0.8,
            max_lines=20,
            needs_more=True,
        ),
    ),
    noise=re.compile(r"standard: Run `standard|Checking formatting\.\.\.$"),
    results=(
        ResultRule(re.compile(r"\[warn\] Code style issues (?:found|detected) in "), BuildStatus.FAILED),
        ResultRule(re.compile(r"Error occurred when checking code style in "), BuildStatus.FAILED),
        ResultRule(re.compile(r"All matched files use Prettier code style!$"), BuildStatus.SUCCESS),
        ResultRule(re.compile(r"Found \d{1,9} warnings? and [1-9]\d{0,8} errors?\.$"), BuildStatus.FAILED),
        ResultRule(re.compile(r"Found \d{1,9} warnings? and 0 errors\.$"), BuildStatus.SUCCESS),
        ResultRule(re.compile(r"standard: Use JavaScript Standard Style "), BuildStatus.FAILED),
        ResultRule(re.compile(r"Summary: [1-9]\d{0,8} error\(s\)"), BuildStatus.FAILED),
        ResultRule(re.compile(r"Summary: 0 error\(s\)$"), BuildStatus.SUCCESS),
        ResultRule(
            re.compile(r"CSpell: Files checked: \d{1,9}.{0,80}, Issues found: [1-9]\d{0,8} in "), BuildStatus.FAILED
        ),
        ResultRule(re.compile(r"CSpell: Files checked: \d{1,9}.{0,80}, Issues found: 0 in "), BuildStatus.SUCCESS),
        ResultRule(re.compile(r"✖ {3}found [1-9]\d{0,8} problems?, \d"), BuildStatus.FAILED),
        ResultRule(re.compile(r"Scanned \d{1,9} files?, found [1-9]\d{0,8} errors? in "), BuildStatus.FAILED),
        ResultRule(re.compile(r"Scanned \d{1,9} files?, no errors found"), BuildStatus.SUCCESS),
        ResultRule(re.compile(_FOUND), BuildStatus.FAILED),
        ResultRule(re.compile(r"✂.{0,4}Excellent, Knip found no issues"), BuildStatus.SUCCESS),
    ),
)

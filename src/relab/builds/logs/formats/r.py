"""The log format of R: its interpreter, R CMD INSTALL and R CMD check, and testthat."""

import re

from relab.builds.logs.formats.descriptor import BlockRule, FailedListRule, LogFormat, ResultRule
from relab.builds.logs.models import LineRole
from relab.builds.models import BuildStatus

_TEST = r"── (?:Failure|Error) \([^()]{1,300}\)(?:: | ─)"

FORMAT = LogFormat(
    "R",
    rules=(
        BlockRule(
            "failed test of testthat",
            re.compile(rf"\s*{_TEST}"),
            re.compile(r".*\S"),
            until=re.compile(r"\s*── |\s*\[ FAIL |\s*══"),
            bridge=1,
            weight=0.95,
            max_lines=40,
        ),
        BlockRule(
            "error of R",
            re.compile(r"\s{0,6}Error(?: in .{1,300}?)? ?: (?!unable to load R code)"),
            re.compile(r"\s+\S"),
            weight=0.95,
            max_lines=10,
        ),
        BlockRule(
            "missing package",
            re.compile(r"ERROR: dependenc(?:y|ies) .{1,500} (?:is|are) not available for package"),
            weight=0.95,
        ),
        BlockRule(
            "missing package",
            re.compile(r"Packages? required(?: and available)? but (?:not available|unsuitable version)"),
            weight=0.95,
        ),
        BlockRule(
            "package that cannot be installed",
            re.compile(r"ERROR: (?:\w+ ){1,4}failed for package|Error: unable to load R code in package"),
            weight=0.3,
            role=LineRole.CONSEQUENCE,
        ),
        BlockRule(
            "failed check",
            re.compile(r"(?:\* )?checking .{1,300} \.\.\. (?:ERROR|FAILED)$"),
            re.compile(r"(?!\* )\S|  \S"),
            weight=0.7,
            max_lines=40,
        ),
        BlockRule("end of R", re.compile(r"\s*Execution halted$|\s+ERROR$"), weight=0.2, role=LineRole.CONSEQUENCE),
    ),
    headers=re.compile(rf"\s*{_TEST}|\s*Error in .{{1,300}}? ?: *$"),
    noise=re.compile(
        r"\* checking .{1,300} \.\.\. (?:OK|NONE|NOTE|INFO)$|\*{1,3} (?:byte-compile|help|installing|testing if|building|checking absolute)"
    ),
    results=(
        ResultRule(re.compile(r"Status: [1-9]\d{0,3} ERRORs?\b"), BuildStatus.FAILED),
        ResultRule(re.compile(r"Status: (?:OK|[1-9]\d{0,3} (?:WARNING|NOTE)s?\b)"), BuildStatus.SUCCESS),
        ResultRule(
            re.compile(
                r"ERROR: (?:(?:\w+ ){1,4}failed for package|dependenc(?:y|ies) .{1,500} not available for package)"
            ),
            BuildStatus.FAILED,
        ),
        ResultRule(re.compile(r"\s{0,4}Execution halted$"), BuildStatus.FAILED),
        # The summary of rcmdcheck and devtools.
        ResultRule(
            re.compile(r"[1-9]\d{0,3} errors? [\u2714\u2716]? ?\| \d{1,4} warnings? [\u2714\u2716]? ?\| \d"),
            BuildStatus.FAILED,
        ),
        ResultRule(
            re.compile(r"0 errors [\u2714\u2716]? ?\| \d{1,4} warnings? [\u2714\u2716]? ?\| \d"), BuildStatus.SUCCESS
        ),
        ResultRule(re.compile(r"\* DONE \([\w.]{1,100}\)$"), BuildStatus.SUCCESS),
        ResultRule(re.compile(r"\[ FAIL [1-9]\d{0,8} \| WARN \d"), BuildStatus.FAILED),
        ResultRule(re.compile(r"\[ FAIL 0 \| WARN \d{1,9} \| SKIP \d{1,9} \| PASS [1-9]"), BuildStatus.SUCCESS),
    ),
    failed_lists=(
        FailedListRule(
            opens=re.compile(rf"\s*{_TEST}"),
            item=re.compile(
                r"\s*── (?:Failure|Error) \((?:(?P<file>[^():]{1,200}):)?[^()]{1,100}\): (?P<name>\S.{0,400}?)(?: ─+)?$"
            ),
            closes=re.compile(r""),
        ),
    ),
)

"""The log format of Go: compiler, vet, tests and panics."""

import re
from typing import Final

from relab.builds.logs.formats.descriptor import BlockRule, LogFormat, NamedTestRule, ResultRule, ScopeRule
from relab.builds.logs.models import LineRole
from relab.builds.models import BuildStatus, BuildTestOutcome

PLACE: Final = r"(?:vet: )?[\w./@-]{1,300}\.go:\d+(?::\d+)?: "
PACKAGE: Final = r"# [\w./@-]{1,300}(?: \[[\w./@ -]{1,300}\])?"

FORMAT = LogFormat(
    "Go",
    rules=(
        BlockRule(
            "failed test",
            re.compile(r"\s*--- FAIL: "),
            re.compile(r"\s+\S"),
            until=re.compile(r"\s*--- (?:PASS|SKIP)|=== "),
            bridge=1,
            weight=0.95,
        ),
        BlockRule(
            "panic",
            re.compile(r"panic: |fatal error: (?!.*\.h\b)|unexpected fault address"),
            re.compile(r"goroutine \d+ \[|\s+\S|[\w./*()·{}-]{1,300}\(.{0,300}\)$|created by |\[signal |panic\("),
            bridge=2,
            weight=0.95,
        ),
        BlockRule(
            "data race",
            re.compile(r"WARNING: DATA RACE"),
            re.compile(r".*\S"),
            until=re.compile(r"={10,}$"),
            bridge=1,
            weight=0.95,
        ),
        BlockRule(
            "package that does not build",
            re.compile(rf"{PACKAGE}$"),
            re.compile(rf"{PLACE}|\S{{0,300}}\b(?:ld|link|collect2|main_main·f): \S"),
            weight=0.9,
            # A comment of TAP, which names a test, has the same form.
            needs_more=True,
        ),
        BlockRule("compiler error", re.compile(PLACE), re.compile(r"\t\S"), weight=0.9),
        BlockRule(
            "failed package",
            re.compile(r"FAIL\s+[\w./@-]{1,300}(?:\s+(?:\[\w+ failed\]|\(cached\)|[\d.]+s))?$"),
            weight=0.8,
        ),
        BlockRule("failed tests", re.compile(r"FAIL$|exit status [1-9]\d*$"), weight=0.5, role=LineRole.CONSEQUENCE),
        BlockRule(
            "error of the go command",
            re.compile(r"go(?: build| mod| get)?: (?!downloading|finding|extracting|found|added|upgraded)\S"),
            re.compile(r"\t\S"),
            weight=0.85,
        ),
    ),
    headers=re.compile(rf"{PACKAGE}$"),
    noise=re.compile(
        r"ok\s+[\w./@-]{1,300}\s|\?\s+[\w./@-]{1,300}\s|(?:=== (?:RUN|PAUSE|CONT|NAME))|\s*--- (?:PASS|SKIP)|PASS$|go: downloading"
    ),
    results=(
        ResultRule(
            re.compile(r"FAIL(?:$|\t[\w./@-]{1,300}(?:\s|$))|panic: test timed out after \d"), BuildStatus.FAILED
        ),
        ResultRule(
            re.compile(r"ok  \t[\w./@-]{1,300}\t(?:[\d.]{1,12}s|\(cached\))"),
            BuildStatus.SUCCESS,
            yields_to=(BuildStatus.FAILED,),
        ),
        # The last line of gotestsum. If it repeats failed tests, the line counts also the failures of the first runs.
        ResultRule(
            re.compile(
                r"DONE \d{1,9} runs, \d{1,9} tests?(?:, \d{1,9} skipped)?, [1-9]\d{0,8} failures? in (?P<duration>[\d.]{1,20}s)$"
            ),
            BuildStatus.UNKNOWN,
        ),
        ResultRule(
            re.compile(
                r"DONE (?:\d{1,9} runs, )?\d{1,9} tests?(?:, \d{1,9} skipped)?, [1-9]\d{0,8} (?:failures?|errors?)\b.{0,60} in (?P<duration>[\d.]{1,20}s)$"
            ),
            BuildStatus.FAILED,
        ),
        ResultRule(
            re.compile(r"DONE (?:\d{1,9} runs, )?\d{1,9} tests?(?:, \d{1,9} skipped)? in (?P<duration>[\d.]{1,20}s)$"),
            BuildStatus.SUCCESS,
        ),
    ),
    tests=(
        NamedTestRule(
            re.compile(r"\s*--- (?P<outcome>PASS|FAIL|SKIP): (?P<name>\S{1,1000}) \((?P<duration>[\d.]{1,12}s)\)"),
            {
                "PASS": BuildTestOutcome.PASSED,
                "FAIL": BuildTestOutcome.FAILED,
                "SKIP": BuildTestOutcome.SKIPPED,
            },
        ),
        # After a time-out, the list of the tests that were running.
        NamedTestRule(
            re.compile(r"\t+(?P<name>(?:Test|Fuzz|Example)\S{0,1000}) (?P<outcome>\()(?P<duration>[\dhm.]{1,20}s)\)$"),
            {"(": BuildTestOutcome.FAILED},
        ),
    ),
    test_scope=ScopeRule(
        re.compile(r"(?:ok|FAIL)\s+(?P<scope>[\w./@-]{1,300})\s+(?:[\d.]{1,12}s|\(cached\))"), ends_tests=True
    ),
)

"""The log format of Haskell: GHC, Cabal, Hspec and Tasty."""

import re

from relab.builds.logs.formats.descriptor import BlockRule, FailedListRule, LogFormat, NamedTestRule, ResultRule
from relab.builds.logs.models import LineRole
from relab.builds.models import BuildStatus, BuildTestOutcome

_PLACE = r"\S{1,300}\.l?hs:(?:\d{1,7}:\d{1,6}(?:-\d{1,6})?|\(\d{1,7},\d{1,6}\)-\(\d{1,7},\d{1,6}\)): "

FORMAT = LogFormat(
    "Haskell",
    rules=(
        BlockRule(
            "compiler error",
            re.compile(rf"{_PLACE}error:"),
            re.compile(r"\s+\S| *\d+ \|"),
            weight=0.95,
            max_lines=40,
        ),
        BlockRule(
            "error of Cabal",
            re.compile(
                r"Error: (?:\[Cabal-\d{1,6}\]|cabal: )|(?:setup|Setup|cabal(?:\.exe)?): (?:Encountered missing|The following |Could not |Missing )"
            ),
            re.compile(r".*\S"),
            weight=0.95,
            max_lines=20,
        ),
        BlockRule(
            "missing library of C",
            re.compile(
                r"(?:[\w.-]{1,100}+ *> )?\s*(?:setup|cabal|Cabal-\S{1,80}): Missing dependenc(?:y on a foreign|ies on foreign)(?: librar(?:y|ies):)?"
            ),
            re.compile(r"(?:[\w.-]{1,100}+ *> )?\s*(?:librar(?:y|ies):|\* Missing )"),
            weight=0.97,
        ),
        BlockRule(
            "package that could not be built",
            re.compile(
                r"(?:cabal: )?Error: some packages failed to install:|--  While building |\s*Process exited with code: ExitFailure \d"
            ),
            weight=0.3,
            role=LineRole.CONSEQUENCE,
        ),
        BlockRule(
            "failed test of Tasty",
            re.compile(r" {1,40}\S.{0,300}: +FAIL(?: \([\d.]{1,12}s\))?$"),
            re.compile(r" {2,}\S"),
            weight=0.9,
            max_lines=40,
        ),
    ),
    headers=re.compile(
        rf"{_PLACE}error:(?: \[[\w-]{{1,60}}\])?$|Error: \[Cabal-\d{{1,6}}\]$| {{1,40}}\S.{{0,300}}: +FAIL\b"
    ),
    noise=re.compile(r"\[ *\d+ of \d+\] Compiling |Preprocessing |Linking \S"),
    results=(
        ResultRule(re.compile(rf"{_PLACE}error:"), BuildStatus.FAILED),
        # Stack tests the other packages of a project after a failure.
        ResultRule(re.compile(r"Error: \[S-\d{1,6}\]$"), BuildStatus.FAILED),
        ResultRule(
            re.compile(
                r"cabal(?:\.exe)?: (?:Could not resolve dependencies:|Error: some packages failed to install:|Missing dependenc)"
                r"|\s*(?:setup|cabal|Cabal-\S{1,80}): Missing dependenc(?:y on a foreign|ies on foreign)\b"
                r"|--  While building .{1,400} using:$|\s*Process exited with code: ExitFailure [1-9]"
            ),
            BuildStatus.FAILED,
        ),
        ResultRule(re.compile(r"Error: (?:\[Cabal-\d{1,6}\]|cabal: )|setup: Encountered missing "), BuildStatus.FAILED),
        ResultRule(
            re.compile(r"[1-9]\d{0,8} out of \d{1,9} tests? failed \((?P<duration>[\d.]{1,12}s)\)$"), BuildStatus.FAILED
        ),
        ResultRule(
            re.compile(r"All [1-9]\d{0,8} tests? passed \((?P<duration>[\d.]{1,12}s)\)$"),
            BuildStatus.SUCCESS,
        ),
        ResultRule(
            re.compile(r"(?P<suites>\d{1,6}) of (?P=suites) test suites \(\d{1,6} of \d{1,6} test cases\) passed\.$"),
            BuildStatus.SUCCESS,
        ),
        ResultRule(
            re.compile(r"\d{1,6} of \d{1,6} test suites \(\d{1,6} of \d{1,6} test cases\) passed\.$"),
            BuildStatus.FAILED,
        ),
    ),
    tests=(
        # Many programs print lines such as "name: FAIL"; Tasty adds how to repeat the test.
        NamedTestRule(
            re.compile(r" {2,40}(?P<outcome>Use -p) '.{1,600}' to rerun this test only\.$"),
            {"Use -p": BuildTestOutcome.FAILED},
            named_before=re.compile(r" {1,40}(?P<name>\S.{0,300}?): +FAIL(?: \((?P<duration>[\d.]{1,12}s)\))?$"),
        ),
    ),
    failed_lists=(
        # Hspec, which puts the place before each failure.
        FailedListRule(
            opens=re.compile(r"\s*\S{1,300}\.l?hs:\d{1,7}:\d{1,6}: *$"),
            item=re.compile(r" {2,4}\d{1,6}\) (?P<name>\S.{0,600})$"),
            closes=re.compile(r"$|\S"),
        ),
    ),
)

"""The log format of OCaml: the compiler, Dune, opam, and the tests of OUnit."""

import re

from relab.builds.logs.formats.descriptor import BlockRule, LogFormat, NamedTestRule, ResultRule
from relab.builds.models import BuildStatus, BuildTestOutcome

_PLACE = r'File "[^"]{1,400}", lines? \d{1,7}(?:-\d{1,7})?, characters \d'
_ERROR = r"Error(?: \([\w \[\]-]{1,120}\))?: \S"
_REPORT = r"#={3} ERROR while \S.{0,300}? =+#$"
"""The title of opam's report about a package. Each line of the report begins with `#`."""
_OUTPUT = r"### (?:output|stdout|stderr) ###$"
"""The title of the last lines that a tool wrote, in a report of opam."""
_TEST = r"[\w.-]{1,200}(?::\d{1,6}(?::[^():]{1,200})?){1,20}"

FORMAT = LogFormat(
    "OCaml",
    rules=(
        BlockRule(
            "failed test of OUnit",
            re.compile(rf"Error: {_TEST}\.$"),
            re.compile(r".*\S"),
            until=re.compile(r"-{20,}$|={20,}$|Ran: \d"),
            bridge=2,
            weight=0.95,
            max_lines=60,
        ),
        BlockRule(
            "output in a report of opam",
            re.compile(_OUTPUT),
            re.compile(r"#(?: |$)"),
            weight=0.9,
            max_lines=80,
            needs_more=True,
        ),
        BlockRule("report of opam", re.compile(_REPORT), weight=0.6),
        BlockRule(
            "place of an error", re.compile(_PLACE), re.compile(r" *\d+ \| | *\^+$|  "), weight=0.4, max_lines=12
        ),
        BlockRule(
            "compiler error",
            re.compile(_ERROR),
            re.compile(r" {2,}\S|Hint: "),
            weight=0.9,
            max_lines=20,
        ),
    ),
    headers=re.compile(rf"Error: {_TEST}\.$|{_OUTPUT}"),
    noise=re.compile(r"(?:# )?\(cd _build/|Hint: try:$|# (?:context|path|command|exit-code|env-file|output-file) +\S"),
    results=(
        ResultRule(re.compile(_REPORT), BuildStatus.FAILED),
        ResultRule(
            re.compile(_ERROR),
            BuildStatus.FAILED,
            # Warnings have places, too, and other tools and the program itself write errors in this form.
            follows=re.compile(_PLACE),
            # The compiler quotes at most ten lines, and marks what it left out.
            within=12,
            broken_by=re.compile(r"(?:Warning \d{1,4}(?: \[[\w-]{1,60}\])?|Alert \w{1,60}): "),
        ),
        # Dune runs several programs of tests. Many tools print a line "OK".
        ResultRule(
            re.compile(r"Ran: \d{1,9} tests? in: [\d.]{1,12} seconds\.$"),
            BuildStatus.UNKNOWN,
            yields_to=(BuildStatus.FAILED,),
        ),
        ResultRule(re.compile(r"FAILED: Cases: \d"), BuildStatus.FAILED),
        ResultRule(
            re.compile(r"OK$"),
            BuildStatus.SUCCESS,
            only_after=BuildStatus.UNKNOWN,
            follows=re.compile(r"Ran: \d"),
        ),
    ),
    tests=(
        NamedTestRule(re.compile(rf"(?P<outcome>Error): (?P<name>{_TEST})\.$"), {"Error": BuildTestOutcome.FAILED}),
    ),
)

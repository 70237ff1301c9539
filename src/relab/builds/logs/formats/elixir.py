"""The log format of Elixir: Mix, the compiler and ExUnit."""

import re

from relab.builds.logs.formats.descriptor import BlockRule, LogFormat, NamedTestRule, ResultRule
from relab.builds.models import BuildStatus, BuildTestOutcome

_TEST = r" {2,5}\d{1,6}\) (?P<name>(?P<outcome>test|property|doctest) \S.{0,400} \([A-Z][\w.]{0,200}\))$"

FORMAT = LogFormat(
    "Elixir",
    rules=(
        BlockRule(
            "failed test of ExUnit",
            re.compile(_TEST.replace("?P<name>", "?:").replace("?P<outcome>", "?:")),
            re.compile(r" {5,}\S"),
            bridge=1,
            weight=0.95,
            max_lines=60,
        ),
        BlockRule(
            "exception", re.compile(r"\*\* \([A-Z][\w.]{0,100}\) \S"), re.compile(r" {2,}\S"), weight=0.95, max_lines=30
        ),
        BlockRule("file that does not compile", re.compile(r"== Compilation error in file "), weight=0.7),
    ),
    results=(
        ResultRule(
            re.compile(r"(?=\d)(?:\d{1,6} \w{1,20}, ){0,3}\d{1,6} tests?, [1-9]\d{0,5} failures?\b"), BuildStatus.FAILED
        ),
        # In an umbrella project, Mix tests the other applications after a failure.
        ResultRule(
            re.compile(r"(?=\d)(?:\d{1,6} \w{1,20}, ){0,3}[1-9]\d{0,5} tests?, 0 failures\b"),
            BuildStatus.SUCCESS,
            yields_to=(BuildStatus.FAILED,),
            between=re.compile(r"==> [a-z]\w{0,80}$"),
        ),
        ResultRule(
            re.compile(
                r"== Compilation error in file |(?:Shall I install Hex\?.{1,200}\] )?\*\* \((?:Mix|CompileError|SyntaxError|TokenMissingError)\) |Compilation failed due to warnings"
            ),
            BuildStatus.FAILED,
        ),
    ),
    tests=(NamedTestRule(re.compile(_TEST), dict.fromkeys(("test", "property", "doctest"), BuildTestOutcome.FAILED)),),
)

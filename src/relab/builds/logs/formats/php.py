"""The log format of PHP: its interpreter, PHPUnit, Composer and PHP_CodeSniffer."""

import re

from relab.builds.logs.formats.descriptor import (
    BlockRule,
    FailedListRule,
    LogFormat,
    NamedTestRule,
    ResultRule,
    ScopeRule,
)
from relab.builds.models import BuildStatus, BuildTestOutcome

_TEST = r"\d{1,6}\) (?:\w{1,100}\\){0,12}\w{1,200}::\w"

FORMAT = LogFormat(
    "PHP",
    rules=(
        BlockRule(
            "failed test of PHPUnit",
            re.compile(_TEST),
            re.compile(r".*\S"),
            until=re.compile(rf"{_TEST}|--$|FAILURES!$|ERRORS!$|WARNINGS!$"),
            bridge=1,
            weight=0.95,
            max_lines=40,
        ),
        BlockRule(
            "failed test of PHPUnit",
            re.compile(r" ✘ \S"),
            re.compile(r" {3}[│|┐├┴┊]"),
            weight=0.9,
            max_lines=60,
            needs_more=True,
        ),
        BlockRule(
            "error of PHP",
            re.compile(r"(?:PHP )?(?:Fatal|Parse) error: {1,2}\S"),
            re.compile(r"Stack trace:|#\d+ |\s+thrown in "),
            weight=0.95,
            max_lines=40,
        ),
        BlockRule(
            "dependencies that Composer cannot resolve",
            re.compile(r"Your requirements could not be resolved to an installable set of packages"),
            re.compile(r"\s+\S"),
            bridge=1,
            weight=0.95,
            max_lines=40,
        ),
        BlockRule(
            "error of Composer",
            re.compile(r"In \w{1,100}\.php line \d{1,6}:$"),
            re.compile(r"  \S|\s+$"),
            bridge=1,
            weight=0.95,
            max_lines=12,
        ),
        BlockRule(
            "finding of PHP_CodeSniffer", re.compile(r" *\d{1,6} \| ERROR +\| "), re.compile(r" +\| +\| "), weight=0.9
        ),
        BlockRule(
            "finding of PHP_CodeSniffer",
            re.compile(r" *\d{1,6} \| WARNING +\| "),
            re.compile(r" +\| +\| "),
            weight=0.65,
        ),
    ),
    headers=re.compile(rf"{_TEST}| ✘ \S|Your requirements could not be resolved|In \w{{1,100}}\.php line \d{{1,6}}:$"),
    noise=re.compile(r"[.SIRFEWDN]{1,80} +\d{1,9} / \d{1,9} \( *\d{1,3}%\)$"),
    results=(
        ResultRule(re.compile(r"(?:FAILURES|ERRORS)!$"), BuildStatus.FAILED),
        ResultRule(
            re.compile(
                r"OK \([1-9]\d{0,8} tests?, \d{1,9} assertions?\)$|OK, but (?:incomplete, skipped|there were issues|some tests)"
            ),
            BuildStatus.SUCCESS,
        ),
        # Other programs report errors of these names, but without a file and line of PHP.
        ResultRule(
            re.compile(
                r"PHP (?:Fatal|Parse) error:  \S|(?:Fatal|Parse) error: .{1,1800} in \S{1,300}(?: on line |:)\d{1,7}$"
            ),
            BuildStatus.FAILED,
        ),
        ResultRule(
            re.compile(r"Your requirements could not be resolved to an installable|In JsonFile\.php line \d"),
            BuildStatus.FAILED,
        ),
        ResultRule(
            re.compile(r"FOUND [1-9]\d{0,8} ERRORS? (?:AND \d{1,9} WARNINGS? )?AFFECTING \d"), BuildStatus.FAILED
        ),
    ),
    tests=(
        NamedTestRule(
            re.compile(r" (?P<outcome>[✔✘↩∅☢⚠]) (?P<name>\S.{0,600}?)(?: \[(?P<duration>[\d.]{1,12} ms)\])?$"),
            {
                "✔": BuildTestOutcome.PASSED,
                "⚠": BuildTestOutcome.PASSED,
                "✘": BuildTestOutcome.FAILED,
                **dict.fromkeys("↩∅☢", BuildTestOutcome.SKIPPED),
            },
            needs_scope=True,
        ),
    ),
    failed_lists=(
        FailedListRule(
            opens=re.compile(r"There (?:was|were) \d{1,9} (?:failure|error)s?:$"),
            item=re.compile(r"\d{1,6}\) (?P<name>(?:\w{1,100}\\){0,12}\w{1,200}::\w.{0,600})$"),
            closes=re.compile(r"--$|FAILURES!$|ERRORS!$|WARNINGS!$|There (?:was|were) \d"),
        ),
    ),
    test_scope=ScopeRule(re.compile(r"\w[\w ]{0,200} \((?P<scope>(?:\w{1,100}\\){1,12}\w{1,200})\)$")),
)

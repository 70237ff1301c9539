"""The log format of Surefire and JUnit: failed tests, as Maven and Ant print them."""

import re

from relab.builds.logs.formats.descriptor import BlockRule, FailedListRule, LogFormat, NamedTestRule
from relab.builds.models import BuildTestOutcome

FORMAT = LogFormat(
    "Surefire",
    rules=(
        BlockRule(
            "failed tests",
            re.compile(r"(?:\[ERROR\] +)?Tests run: \d+.{1,200}<<< (?:FAILURE|ERROR)!"),
            weight=0.95,
        ),
        BlockRule(
            "failed test",
            re.compile(r"(?!.{0,12}Tests run:).{1,400}<<< (?:FAILURE|ERROR)!"),
            re.compile(r"\s+at |Caused by: |\s+\.\.\. \d+ more|\s+Suppressed: |(?:[a-z][\w$]*\.)+[\w$]{1,200}"),
            until=re.compile(r"Running |Tests run: |\[INFO\]|Results ?:"),
            bridge=12,
            weight=0.95,
        ),
        BlockRule(
            "list of failed tests",
            re.compile(r"(?:\[ERROR\] +)?(?:Tests in error|Failed tests|Failures|Errors): *(?:\S.{0,600})?$"),
            re.compile(r"\s+\S|\[ERROR\] {3,}\S"),
            until=re.compile(r"Tests run: "),
            weight=0.85,
        ),
    ),
    noise=re.compile(r"Running \w+(?:\.\w+)+$|Tests run: \d+, Failures: 0, Errors: 0|Results ?:$"),
    tests=(
        NamedTestRule(
            re.compile(
                r"(?:\[ERROR\] +)?(?P<name>[^\s()]{1,400}(?:\([\w$., \[\]]{0,400}\))?(?:\[[^\]]{1,300}\])?|\S.{0,400}\([\w$.]{1,400}\))"
                r" +(?:-- )?Time elapsed: (?P<duration>[\d.]{1,12} ?s)(?:ec)? +"
                r"<<< (?P<outcome>FAILURE|ERROR)!"
            ),
            {"FAILURE": BuildTestOutcome.FAILED, "ERROR": BuildTestOutcome.FAILED},
        ),
        # The list `Flakes:` has the tests that passed when they were repeated; those that failed again have `[ERROR]`.
        NamedTestRule(
            re.compile(
                r"\[WARNING\] +(?P<name>(?:[\w$]{1,200}\.){1,40}[\w$]{1,200}(?:\([\w$., \[\]]{0,400}\))?(?:\[[^\]]{1,300}\])?)(?P<outcome>)$"
            ),
            {"": BuildTestOutcome.FLAKY},
            corrects=True,
        ),
    ),
    failed_lists=(
        # Old versions write the details of a failed test to a file by default, and only this list to the log.
        FailedListRule(
            # Without a level, many tools print "Failures:" and "Errors:".
            opens=re.compile(
                r"(?:\[ERROR\] +)?(?:Tests in error|Failed tests): *(?:\S|$)|\[ERROR\] +(?:Failures|Errors): *$"
            ),
            item=re.compile(
                r"(?:\[ERROR\]|Failed tests:|Tests in error:)? {2,4}(?:\w{1,300} on instance )?"
                r"(?P<name>[\w$]{1,300}(?:\[[^\]]{0,300}\])?\([\w$.]{1,400}\)|[\w$]{1,300}(?:\.[\w$]{1,300}){1,20})(?<!Exception)(?<!Error)(?=[:(\s-]|$)"
            ),
            closes=re.compile(r"(?:\[ERROR\] +)?Tests run: |\[INFO\]"),
            is_fallback=True,
        ),
    ),
)

"""The log format of Gradle: failed tasks, failed tests, and the section "What went wrong"."""

import re

from relab.builds.logs.formats.descriptor import BlockRule, LogFormat, NamedTestRule, ResultRule
from relab.builds.logs.models import LineRole
from relab.builds.models import BuildStatus, BuildTestOutcome

_OUTCOME = r"(?P<outcome>PASSED|FAILED|SKIPPED)"
_OUTCOMES = {
    "PASSED": BuildTestOutcome.PASSED,
    "FAILED": BuildTestOutcome.FAILED,
    "SKIPPED": BuildTestOutcome.SKIPPED,
}

FORMAT = LogFormat(
    "Gradle",
    rules=(
        BlockRule(
            "failed test",
            re.compile(r"[\w$.]{1,300} > .{1,300} FAILED$"),
            re.compile(r"\s+\S"),
            bridge=1,
            weight=0.95,
        ),
        BlockRule(
            "a test failed",
            re.compile(r"> There (?:were|was) failing tests|There were failing tests"),
            weight=0.25,
            role=LineRole.CONSEQUENCE,
        ),
        BlockRule(
            "what went wrong",
            re.compile(
                r"(?:Execution failed for task|Plugin \[id: |A problem occurred|Could not (?:resolve|determine|find|compile|open)|Project directory|Task '.{1,200}' not found)"
            ),
            re.compile(r".*\S"),
            until=re.compile(r"\* |> There w|BUILD FAILED|\d+ actionable task|$"),
            weight=0.95,
        ),
        BlockRule(
            "failed task",
            re.compile(r"(?:> Task )?:[\w:-]{1,200} FAILED$|> Task :[\w:-]{1,200} FAILED"),
            weight=0.3,
            role=LineRole.CONSEQUENCE,
        ),
        BlockRule(
            "number of failed tests",
            re.compile(r"\d+ tests? completed, [1-9]\d* failed|FAILURE: Build (?:failed|completed)"),
            weight=0.25,
            role=LineRole.CONSEQUENCE,
        ),
        BlockRule(
            "advice of Gradle",
            re.compile(r"\* (?:Try|Get more help)\b"),
            re.compile(r".*(?:--stacktrace|--info|--debug|--scan|help\.gradle)"),
            weight=0.2,
            role=LineRole.CONSEQUENCE,
        ),
    ),
    noise=re.compile(
        r"(?:> Task )?:[\w:-]{1,200}(?: (?:UP-TO-DATE|NO-SOURCE|FROM-CACHE|SKIPPED))?$|\d+ actionable task|BUILD (?:FAILED|SUCCESSFUL) in"
        r"|.{1,300} > .{1,300} (?:PASSED|SKIPPED|STANDARD_OUT)$|\* What went wrong:|\* (?:Try|Get more help)\b|> Run with --|Deprecated Gradle features|See https://docs\.gradle"
    ),
    results=(
        ResultRule(re.compile(r"BUILD SUCCESSFUL in (?P<duration>[\dhms ]{1,30})$"), BuildStatus.SUCCESS),
        ResultRule(re.compile(r"BUILD FAILED in (?P<duration>[\dhms ]{1,30})$"), BuildStatus.FAILED),
        ResultRule(re.compile(r"BUILD SUCCESSFUL$"), BuildStatus.SUCCESS),
        ResultRule(re.compile(r"BUILD FAILED$"), BuildStatus.FAILED),
        # With -q, Gradle prints no other result.
        ResultRule(
            re.compile(
                r"FAILURE: Build (?:failed with an exception|completed with \d{1,9} failures)\.|Execution failed for task ':[\w:-]{1,200}'\.$"
            ),
            BuildStatus.FAILED,
        ),
    ),
    tests=(
        # TestNG gives all rows of a data provider one name. Old versions of Gradle omit the method of a parameterised test.
        NamedTestRule(
            re.compile(
                r"(?P<name>.{1,300} > (?:[\w$]{1,200}\.){1,40}[\w$]{1,200}|[\w$.]{1,300} > \[\d{1,9}\](?:(?! > ).){0,600}) "
                rf"{_OUTCOME}$"
            ),
            _OUTCOMES,
        ),
        NamedTestRule(
            re.compile(rf"(?P<name>[\w$.]{{1,300}} > .{{1,600}}) {_OUTCOME}$"),
            _OUTCOMES,
            # Gradle repeats the line for a task if the output of others lies between, and adds how the task ended.
            part_edges=re.compile(r"> Task (?P<part>:\S{1,1000})(?: [A-Z-]{1,20})?$|BUILD (?:FAILED|SUCCESSFUL)\b"),
        ),
    ),
)

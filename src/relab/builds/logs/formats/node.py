"""The log format of Node.js: npm, Yarn and pnpm, test runners, and uncaught errors."""

import re

from relab.builds.logs.formats.descriptor import (
    BlockRule,
    FailedListRule,
    LogFormat,
    NamedTestRule,
    ResultRule,
    ScopeRule,
)
from relab.builds.logs.models import LineRole
from relab.builds.models import BuildStatus, BuildTestOutcome

_OUTCOMES = {
    "ok": BuildTestOutcome.PASSED,
    "not ok": BuildTestOutcome.FAILED,
    "●": BuildTestOutcome.FAILED,
    "FAIL": BuildTestOutcome.FAILED,
    **dict.fromkeys("✓✔", BuildTestOutcome.PASSED),
    **dict.fromkeys("✕✖✗✘\xd7", BuildTestOutcome.FAILED),
}

FORMAT = LogFormat(
    "Node.js",
    rules=(
        BlockRule(
            "advice of npm",
            re.compile(
                r"npm (?:ERR!|error)(?:\s*$| A complete log| {4,}\S{1,300}/_logs/| This is probably not a problem| Lifecycle script)"
            ),
            weight=0.3,
            role=LineRole.CONSEQUENCE,
        ),
        BlockRule("error of npm", re.compile(r"npm (?:ERR!|error) "), weight=0.9),
        BlockRule(
            "error of Yarn",
            re.compile(r"error (?!Command failed|during build:$).{1,300}\S"),
            weight=0.9,
        ),
        BlockRule(
            "failed test",
            re.compile(r"\s*● (?!Console$|Cannot log after ).{1,300}(?: \u203a |$)"),
            re.compile(r"\s+\S"),
            bridge=2,
            weight=0.9,
            max_lines=80,
        ),
        BlockRule(
            "failed tests of Mocha",
            re.compile(r"  [1-9]\d{0,8} failing$"),
            re.compile(r"\s+\S"),
            bridge=3,
            weight=0.9,
            max_lines=80,
        ),
        BlockRule(
            "failed test of AVA",
            re.compile(r"\s{2,4}✘ (?:\[fail\]: |Timed out while running tests$)"),
            weight=0.9,
        ),
        BlockRule(
            "failed file of tests",
            re.compile(r"(?:FAIL|✖|✗|\xd7) +(?!\d+ problems? \(0 errors|Build failed in )\S|\s*+\d+\) .{1,200}:$"),
            re.compile(r"\s{4,}\S"),
            weight=0.8,
            max_lines=60,
        ),
        BlockRule(
            "failed test of TAP",
            re.compile(r"\s*not ok \d+"),
            re.compile(r"\s+\S"),
            until=re.compile(r"\s*(?:ok|not ok) \d|\s*\.\.\.$"),
            weight=0.9,
            max_lines=80,
        ),
        BlockRule(
            "uncaught error",
            re.compile(r"(?:Uncaught )?[A-Z]\w{4,65}+(?<=Error)(?: \[\w{1,80}\])?: \S"),
            re.compile(r"\s+at \S|\s+\[?\w{1,40}\]?: |\s*[{}],?$|  (?:code|errno|requireStack|syscall|path)\b"),
            bridge=4,
            weight=0.85,
        ),
        BlockRule(
            "missing module",
            re.compile(r"(?:ERROR|Module not found|Cannot find module|\[!\] )\s*(?:in |:|')"),
            re.compile(r"\s+\S"),
            weight=0.85,
            max_lines=30,
        ),
    ),
    noise=re.compile(r"npm (?:notice|WARN|warn|timing|http)\b|added \d+ packages|\s*[✓✔] "),
    results=(
        # npm goes on with the scripts of the other workspaces.
        ResultRule(re.compile(r"npm (?:ERR!|error) workspace \S"), BuildStatus.FAILED, is_lasting=True),
        ResultRule(re.compile(r"npm (?:ERR!|error) "), BuildStatus.FAILED),
        ResultRule(
            re.compile(r"\s?(?:ELIFECYCLE|ERROR)\s{1,4}(?:Command|Test) failed|\s?ERROR {1,4}run failed: command "),
            BuildStatus.FAILED,
        ),
        # Yarn 1 prints its address after each command that failed.
        ResultRule(
            re.compile(
                r"info Visit https?://yarnpkg\.com/\S{1,100} for documentation about this command\.|error An unexpected error occurred: \""
            ),
            BuildStatus.FAILED,
        ),
        ResultRule(
            re.compile(r"(?:success Already up-to-date\.|success Saved lockfile\.)$"),
            BuildStatus.UNKNOWN,
            only_after=BuildStatus.FAILED,
        ),
        # Jest. A file that cannot be run has no failed test, so only the line `Test Suites` shows a success.
        ResultRule(
            re.compile(r"Test Suites: +[1-9]\d{0,8} failed, |Tests: +[1-9]\d{0,8} failed, "), BuildStatus.FAILED
        ),
        ResultRule(
            re.compile(r"Test Suites: +(?:\d{1,9} (?:skipped|pending), )?[1-9]\d{0,8} passed, "), BuildStatus.SUCCESS
        ),
        ResultRule(re.compile(r"Time: +(?P<duration>[\d.]{1,20} m?s)(?:, estimated|$)"), None),
        # Vitest.
        ResultRule(
            re.compile(r" +Test Files +[1-9]\d{0,8} failed\b| +Errors +[1-9]\d{0,8} errors?$"), BuildStatus.FAILED
        ),
        ResultRule(re.compile(r" +Test Files +[1-9]\d{0,8} passed\b"), BuildStatus.SUCCESS),
        # The test runner of Node.js.
        ResultRule(re.compile(r"[#\u2139] (?:fail|cancelled) +[1-9]\d{0,8}$"), BuildStatus.FAILED),
        ResultRule(re.compile(r"[#\u2139] fail 0$"), BuildStatus.SUCCESS),
        # tape, which names failures only if there are any.
        ResultRule(re.compile(r"# ok$"), BuildStatus.SUCCESS),
        # Mocha, which prints the failures after the passes, and AVA.
        ResultRule(re.compile(r"  \d{1,9} passing \((?P<duration>[\d.]{1,9}(?:ms|s|m|h))\)$"), BuildStatus.SUCCESS),
        ResultRule(re.compile(r"  \d{1,9} failing$"), BuildStatus.FAILED),
        ResultRule(
            re.compile(
                r"  [1-9]\d{0,8} (?:tests?|hooks?) failed$|  [1-9]\d{0,8} (?:uncaught exception|unhandled rejection)s?$"
            ),
            BuildStatus.FAILED,
        ),
        ResultRule(re.compile(r"  ✘ Timed out while running tests$"), BuildStatus.FAILED),
        ResultRule(re.compile(r"  [1-9]\d{0,8} tests? passed$"), BuildStatus.SUCCESS, yields_to=(BuildStatus.FAILED,)),
    ),
    tests=(
        NamedTestRule(
            re.compile(
                r"\s*+(?!.{1,1000} # (?i:skip|todo)\b)(?P<outcome>ok|not ok) \d{1,7} (?:- )?(?P<name>\S.{0,1000}?)(?: # .{0,300})?$"
            ),
            _OUTCOMES,
        ),
        NamedTestRule(
            re.compile(
                r"\s{2,20}(?P<outcome>[✓✔✕✖✗\xd7]) (?P<name>\S.{0,600}?)(?: \((?P<duration>[\d.]{1,9} ?m?s)\))?$"
            ),
            _OUTCOMES,
            needs_scope=True,
        ),
        # If Jest runs several files, it prints only the failed tests, after the names of their groups. The name
        # is the last part, as in the output of a single file.
        NamedTestRule(
            re.compile(
                r"\s{2,4}(?P<outcome>●) (?!Console$|Cannot log after )(?:\S.{0,600} \u203a )?(?P<name>\S[^\u203a]{0,600}(?<!:))$"
            ),
            _OUTCOMES,
            needs_scope=True,
        ),
        # AVA.
        NamedTestRule(
            re.compile(
                r"\s{2,4}(?P<outcome>✘) \[fail\]: (?P<name>\S.{0,600}?)(?: (?:Rejected promise|Error thrown in test))?$"
            ),
            _OUTCOMES,
        ),
        # Vitest prints `FAIL file > test` for a failed test, and `FAIL file [ file ]` for a file that it cannot run.
        NamedTestRule(
            re.compile(
                r" ?(?P<outcome>FAIL) +(?P<name>(?:\|.{1,100}\| )?[\w@./-]{1,300}\.[cm]?[jt]sx?(?: > \S.{0,600}| \[ [\w@./-]{1,300} \]))$"
            ),
            _OUTCOMES,
        ),
    ),
    failed_lists=(
        # Mocha: the names of the groups and of the test, one on each line.
        FailedListRule(
            opens=re.compile(r"  [1-9]\d{0,8} failing$"),
            item=re.compile(r"  \d{1,6}\) (?P<name>\S.{0,600})$"),
            # The report of a failed test may have any text.
            closes=re.compile(r"npm (?:ERR!|error) |error Command failed|##\[|={3,}"),
            continues=re.compile(r"\s{4,}(?P<name>\S.{0,600})$"),
        ),
    ),
    test_scope=ScopeRule(
        re.compile(
            r" ?(?:PASS|FAIL) +(?:[\w-]{1,60} )?(?P<scope>[\w./-]{1,300}\.[cm]?[jt]sx?)(?: \([\w., ]{1,60}\))?\s*$"
        )
    ),
)

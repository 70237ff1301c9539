"""The log format of Cargo and rustc."""

import re

from relab.builds.logs.formats.descriptor import BlockRule, LogFormat, NamedTestRule, ResultRule, ScopeRule
from relab.builds.logs.models import LineRole
from relab.builds.models import BuildStatus, BuildTestOutcome

FORMAT = LogFormat(
    "Rust",
    rules=(
        BlockRule(
            "compiler error",
            re.compile(r"\s?error(?:\[E\d{4}\])?: (?!could not compile|aborting due|test failed|process didn't exit)"),
            re.compile(r"\s+\S|\s*\d* *\||\d+ +\||note: |help: "),
            weight=0.95,
            max_lines=60,
        ),
        BlockRule(
            "failed crate",
            re.compile(r"error: (?:could not compile|aborting due|test failed|process didn't exit)"),
            weight=0.7,
        ),
        BlockRule(
            "output of a failed test",
            re.compile(r"---- .{1,300} stdout ----"),
            re.compile(r".*\S"),
            until=re.compile(r"failures:$|---- "),
            weight=0.95,
            max_lines=100,
        ),
        BlockRule(
            "panic",
            re.compile(r"thread '.{1,200}' (?:\(\d+\) )?panicked at"),
            re.compile(r".*\S"),
            until=re.compile(r"note: |failures:"),
            weight=0.95,
            max_lines=12,
        ),
        BlockRule(
            "difference of rustfmt",
            re.compile(r"Diff in \S{1,400}:\d+:$"),
            re.compile(r"[ +-]"),
            weight=0.8,
            max_lines=60,
        ),
        BlockRule(
            "warning",
            re.compile(r"warning(?:\[\w{1,60}\])?: "),
            re.compile(r"\s+(?:--> |\||= (?:note|help): |\.\.\.)|\s*\d+ +\||(?:note|help): |\.\.\."),
            weight=0.2,
            role=LineRole.CONSEQUENCE,
            max_lines=60,
        ),
        BlockRule("failed test", re.compile(r"test .{1,300} \.\.\. FAILED|test result: FAILED"), weight=0.7),
    ),
    noise=re.compile(
        r"For more information about|(?:Some errors have detailed)| {2,}(?:Compiling|Downloaded|Downloading|Checking|Finished|Running|Updating|Locking|Fresh) |test .{1,300} \.\.\. ok$"
    ),
    results=(
        ResultRule(re.compile(r"test result: ok\."), BuildStatus.SUCCESS),
        ResultRule(
            re.compile(
                r"test result: FAILED\.|\s?error: (?:could not (?:compile|document|find `Cargo)|test failed|\d+ targets? failed|no matching package|the lock file"
                r"|package `.{1,300}` cannot be built because it requires|cannot install package `|failed to (?:load (?:manifest|source)|parse (?:manifest|lock)"
                r"|select a version|get `|download `|compile `|run custom build))"
            ),
            BuildStatus.FAILED,
        ),
    ),
    tests=(
        NamedTestRule(
            re.compile(r"test (?P<name>\S.{0,600}?) \.\.\. (?P<outcome>ok|FAILED|ignored)\b"),
            {
                "ok": BuildTestOutcome.PASSED,
                "FAILED": BuildTestOutcome.FAILED,
                "ignored": BuildTestOutcome.SKIPPED,
            },
        ),
    ),
    test_scope=ScopeRule(re.compile(r"\s+(?:Running (?:unittests )?|Doc-tests )(?P<scope>[\w./-]{1,300})(?: \(|$)")),
)

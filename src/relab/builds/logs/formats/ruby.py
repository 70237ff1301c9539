"""The log format of Ruby: RSpec (and Hspec, which prints the same summary), Minitest, Rake and Bundler."""

import re

from relab.builds.logs.formats.descriptor import BlockRule, FailedListRule, LogFormat, NamedTestRule, ResultRule
from relab.builds.logs.models import LineRole
from relab.builds.models import BuildStatus, BuildTestOutcome

_COUNTS = r"\d{1,9} (?:runs|tests), \d{1,9} assertions, "

FORMAT = LogFormat(
    "Ruby",
    rules=(
        BlockRule(
            "failed example",
            re.compile(r"\s*Failure/Error: \S"),
            re.compile(r"\s+\S|\w{1,60}(?:Error|Exception):$"),
            until=re.compile(r"\s*\d{1,6}\) \S|Finished in |rspec \S"),
            bridge=1,
            weight=0.9,
            max_lines=40,
        ),
        BlockRule(
            "failed test of Minitest",
            re.compile(r"  {1,3}\d{1,6}\) (?:Failure|Error):$"),
            re.compile(r".*\S"),
            until=re.compile(rf"  {{1,3}}\d{{1,6}}\) |{_COUNTS}"),
            bridge=1,
            weight=0.95,
            max_lines=40,
        ),
        BlockRule(
            "failed test of Hspec",
            re.compile(r"  \d{1,6}\) \S"),
            re.compile(r" {5,}(?!Failure/Error: |# )\S"),
            weight=0.9,
            max_lines=40,
            needs_more=True,
        ),
        BlockRule(
            "gem whose extension cannot be built",
            re.compile(
                r"(?:Gem::\w{1,40}::\w{0,20}BuildError: )?ERROR: (?: Error installing \S{1,200}:|Failed to build gem native extension\.)"
            ),
            re.compile(r".*\S"),
            until=re.compile(
                r"\*\*\* extconf\.rb failed \*\*\*|(?:extconf|make) ?failed, exit code|Gem files will remain installed|An error occurred while installing "
            ),
            bridge=2,
            weight=0.9,
            max_lines=60,
        ),
        BlockRule(
            "error of Rake",
            re.compile(r"rake aborted!$"),
            re.compile(r".*\S"),
            weight=0.7,
            max_lines=40,
        ),
        BlockRule(
            "file that RSpec could not load",
            re.compile(r"An error occurred while loading \S"),
            weight=0.3,
            role=LineRole.CONSEQUENCE,
        ),
        BlockRule(
            "error of Bundler",
            re.compile(
                r"Could not (?:reach host|find gem|find \S{1,100} in |fetch specs)|Bundler could not find compatible versions|An error occurred while installing \S{1,100} \("
            ),
            re.compile(r"\S"),
            weight=0.9,
            max_lines=12,
        ),
        BlockRule(
            "exception",
            re.compile(r"\S{1,300}\.rb:\d{1,7}:in `.{1,200}': \S"),
            re.compile(r"\s+(?:from |\d+: )|Did you mean\?"),
            weight=0.9,
            max_lines=40,
        ),
    ),
    headers=re.compile(
        r"  {1,3}\d{1,6}\) (?:Failure|Error):$|  \d{1,6}\) \S|rake aborted!$|\s*\w{1,60}(?:Error|Exception):$|\s*Failure/Error: (?!expect\()"
    ),
    noise=re.compile(r"Run options: --seed|Randomized with seed |Coverage report generated"),
    results=(
        ResultRule(
            re.compile(
                r"\d{1,9} examples?, (?:[1-9]\d{0,8} failures?\b|0 failures, (?:\d{1,9} pending, )?[1-9]\d{0,8} errors? occurred)"
            ),
            BuildStatus.FAILED,
        ),
        ResultRule(re.compile(r"[1-9]\d{0,8} examples?, 0 failures(?:, \d{1,9} pending)?$"), BuildStatus.SUCCESS),
        ResultRule(
            re.compile(rf"{_COUNTS}(?:[1-9]\d{{0,8}} failures, |0 failures, [1-9]\d{{0,8}} errors)"), BuildStatus.FAILED
        ),
        ResultRule(re.compile(rf"(?!0 ){_COUNTS}0 failures, 0 errors"), BuildStatus.SUCCESS),
        ResultRule(re.compile(r"rake aborted!$|\S{1,300}\.rb:\d{1,7}: syntax error, unexpected "), BuildStatus.FAILED),
        ResultRule(
            re.compile(
                r"Could not reach host \S{1,300}\. Check your network|Could not find gem '|Bundler could not find compatible versions|An error occurred while installing \S{1,100} \("
            ),
            BuildStatus.FAILED,
        ),
        # An installation that was repeated.
        ResultRule(re.compile(r"Bundle complete! \d"), BuildStatus.UNKNOWN, only_after=BuildStatus.FAILED),
    ),
    tests=(
        # Minitest with the option -v.
        NamedTestRule(
            re.compile(r"(?P<name>[A-Z][\w:]{0,200}#\S.{0,300}) = (?P<duration>[\d.]{1,12} s) = (?P<outcome>[.FES])$"),
            {
                ".": BuildTestOutcome.PASSED,
                "S": BuildTestOutcome.SKIPPED,
                **dict.fromkeys("FE", BuildTestOutcome.FAILED),
            },
        ),
        NamedTestRule(
            re.compile(r"(?P<outcome>rspec) \S{1,300} # (?P<name>\S.{0,600})$"), {"rspec": BuildTestOutcome.FAILED}
        ),
    ),
    failed_lists=(
        FailedListRule(
            opens=re.compile(r"  {1,3}\d{1,6}\) (?:Failure|Error):$"),
            item=re.compile(r"(?P<name>[A-Z][\w:]{0,200}#\S.{0,300}?)(?: \[.{1,300}\])?:$"),
            closes=re.compile(r"$"),
        ),
    ),
)

"""The log format of Playwright's tests."""

import re

from relab.builds.logs.formats.descriptor import BlockRule, LogFormat, NamedTestRule, ResultRule
from relab.builds.models import BuildStatus, BuildTestOutcome

_TEST = r"(?P<name>(?:\[[^\]]{1,100}\] \u203a )?[\w@./-]{1,300}\.[cm]?[jt]sx?:\d{1,7}:\d{1,7} \u203a \S.{0,600}?)"

FORMAT = LogFormat(
    "Playwright",
    rules=(
        BlockRule(
            "failed test",
            re.compile(r"  \d{1,6}\) (?:\[[^\]]{1,100}\] \u203a )?[\w@./-]{1,300}:\d{1,7}:\d{1,7} \u203a "),
            re.compile(r"\s{4,}\S"),
            until=re.compile(r"  \d{1,6}(?:\) | failed$| flaky$)"),
            bridge=2,
            weight=0.9,
            max_lines=60,
        ),
    ),
    results=(
        ResultRule(re.compile(r"  \d{1,9} (?:failed|interrupted|did not run)$"), BuildStatus.FAILED),
        ResultRule(
            re.compile(r"  \d{1,9} passed \((?P<duration>[\d.]{1,9}(?:ms|s|m|h))\)$"),
            BuildStatus.SUCCESS,
            yields_to=(BuildStatus.FAILED,),
        ),
    ),
    tests=(
        # The reporter `list`; the others name only the tests that failed, and those that passed when repeated alike.
        NamedTestRule(
            re.compile(rf"  (?P<outcome>[✓✔]) +\d{{1,7}} {_TEST} \(retry #\d{{1,4}}\)(?: \([\d.]{{1,9}}\w{{1,2}}\))?$"),
            dict.fromkeys("✓✔", BuildTestOutcome.FLAKY),
            corrects=True,
        ),
        NamedTestRule(
            re.compile(
                rf"  (?P<outcome>[✓✔✘✖]) +\d{{1,7}} {_TEST}(?: \(retry #\d{{1,4}}\))?(?: \((?P<duration>[\d.]{{1,9}}\w{{1,2}})\))?$"
            ),
            {
                **dict.fromkeys("✓✔", BuildTestOutcome.PASSED),
                **dict.fromkeys("✘✖", BuildTestOutcome.FAILED),
            },
        ),
    ),
)

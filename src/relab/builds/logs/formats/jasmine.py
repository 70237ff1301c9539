"""The log format of Jasmine's and uvu's tests."""

import re

from relab.builds.logs.formats.descriptor import BlockRule, LogFormat, NamedTestRule, ResultRule
from relab.builds.models import BuildStatus, BuildTestOutcome

_TITLE = r"\d{1,6}\) (?P<name>\S.{0,600})$"
_OF_UVU = r" {3}FAIL {2}(?P<name>\".{1,600}\")$"

FORMAT = LogFormat(
    "Jasmine",
    rules=(
        BlockRule(
            "failed test",
            re.compile(r" {2}Message:$"),
            re.compile(r" {4,}\S"),
            until=re.compile(r" {2}Stack:$"),
            weight=0.9,
            max_lines=20,
            needs_more=True,
        ),
        BlockRule(
            "failed test of uvu",
            re.compile(_OF_UVU),
            re.compile(r" {4,}\S"),
            bridge=2,
            weight=0.9,
            max_lines=40,
            needs_more=True,
        ),
    ),
    headers=re.compile(rf" {{2}}Message:$|{_OF_UVU.replace('?P<name>', '?:')}"),
    noise=re.compile(r"Failures:$|Randomized with seed \d"),
    results=(
        ResultRule(re.compile(r"\d{1,9} specs?, [1-9]\d{0,8} failures?\b"), BuildStatus.FAILED),
        ResultRule(re.compile(r"[1-9]\d{0,8} specs?, 0 failures(?:, \d{1,9} pending specs?)?$"), BuildStatus.SUCCESS),
        ResultRule(re.compile(_OF_UVU), BuildStatus.FAILED),
        # uvu prints the failures before its counts.
        ResultRule(
            re.compile(r" {2}Skipped: {3}\d{1,9}$"),
            BuildStatus.SUCCESS,
            yields_to=(BuildStatus.FAILED,),
            follows=re.compile(r" {2}Passed: {4}[1-9]\d{0,8}$"),
            between=re.compile(r" {2}Total: "),
        ),
    ),
    tests=(
        NamedTestRule(
            re.compile(r" {2}(?P<outcome>Message):$"),
            {"Message": BuildTestOutcome.FAILED},
            named_before=re.compile(_TITLE),
        ),
        NamedTestRule(
            re.compile(r" {3}(?P<outcome>FAIL) {2}\"(?P<name>.{1,600})\"$"), {"FAIL": BuildTestOutcome.FAILED}
        ),
    ),
)

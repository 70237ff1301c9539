"""pytest and unittest: failures with their reports, and the summary."""

import re

from relab.builds.logs.formats.descriptor import BlockRule, LogFormat, ResultRule
from relab.builds.models import BuildStatus

FORMAT = LogFormat(
    "pytest",
    rules=(
        BlockRule(
            "report of a failed test",
            re.compile(r"_{3,} .{1,300} _{3,}$"),
            re.compile(r".*\S"),
            until=re.compile(r"_{3,} .{1,300} _{3,}$|={3,} .{1,300} ={3,}$"),
            bridge=3,
            weight=0.95,
            max_lines=200,
        ),
        BlockRule(
            "failed test",
            re.compile(r"(?:FAILED|ERROR) [\w./-]{1,300}(?:\.py)?(?:::\S| - )|ERROR collecting "),
            weight=0.95,
        ),
        BlockRule("failed assertion", re.compile(r"E {3,}\S|E$"), re.compile(r"E {3,}\S|E$"), weight=0.95),
        BlockRule(
            "failed test of unittest",
            re.compile(r"(?:FAIL|ERROR): \w{1,200} \("),
            re.compile(r".*\S"),
            until=re.compile(r"={20,}$|Ran \d+ tests?"),
            bridge=2,
            weight=0.95,
            max_lines=200,
        ),
        BlockRule(
            "result of the tests",
            re.compile(r"={3,} .{0,200}\b[1-9]\d* (?:failed|errors?)\b.{0,200} ={3,}$|FAILED \((?:failures|errors)="),
            weight=0.6,
        ),
    ),
    noise=re.compile(
        r".{1,300} PASSED\b|={3,} (?:test session starts|FAILURES|ERRORS|warnings summary|short test summary info) ={3,}$"
    ),
    results=(
        ResultRule(
            re.compile(r"={3,} .{0,200}\b[1-9]\d{0,8} (?:failed|errors?)\b.{0,200} in (?P<duration>[\d.]{1,20}s)\b"),
            BuildStatus.FAILED,
        ),
        ResultRule(
            re.compile(r"={3,} .{0,200}\b[1-9]\d{0,8} passed\b.{0,200} in (?P<duration>[\d.]{1,20}s)\b"),
            BuildStatus.SUCCESS,
        ),
        ResultRule(re.compile(r"FAILED \((?:failures|errors|unexpected)="), BuildStatus.FAILED),
    ),
)

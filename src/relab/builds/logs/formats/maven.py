"""The log format of Maven: lines with a level, such as `[ERROR]`, and the summary of a failed build."""

import re

from relab.builds.logs.formats.descriptor import BlockRule, LogFormat, ResultRule
from relab.builds.logs.models import LineRole
from relab.builds.models import BuildStatus

_ADVICE = (
    r"\[ERROR\](?:\s*$|\s+-> \[Help|\s+\[Help \d|\s+To see the full stack|\s+Re-run Maven|\s+For more information about"
    r"|\s+After correcting the problems|\s+mvn <(?:goals|args)>|\s+Please refer to)"
)

FORMAT = LogFormat(
    "Maven",
    rules=(
        BlockRule("advice of Maven", re.compile(_ADVICE), weight=0.35, role=LineRole.CONSEQUENCE),
        BlockRule("failed goal", re.compile(r"\[ERROR\] Failed to execute goal"), weight=0.95),
        BlockRule(
            "compiler error",
            re.compile(r"\[ERROR\] (?:/|[A-Z]:|file:).{1,600}:\[?\d+"),
            re.compile(r"\s+\S"),
            weight=0.95,
        ),
        BlockRule(
            "error of Maven",
            re.compile(r"\[(?:ERROR|FATAL)\](?! COMPILATION ERROR)|\[WARNING\] Error injecting"),
            re.compile(r"\s+\S"),
        ),
    ),
    step_ends=re.compile(r"\[INFO\] Finished at: "),
    step_starts=re.compile(r"\[INFO\] Scanning for projects"),
    noise=re.compile(
        r"\[INFO\]|\[DEBUG\]|\[ERROR\] COMPILATION ERROR|Download(?:ing|ed)(?: from)?\b.{0,60}: |Progress \(\d"
    ),
    results=(
        ResultRule(re.compile(r"\[INFO\] BUILD SUCCESS$"), BuildStatus.SUCCESS),
        ResultRule(
            re.compile(r"\[(?:INFO|ERROR)\] BUILD FAILURE$|\[ERROR\] Failed to execute goal "), BuildStatus.FAILED
        ),
        ResultRule(re.compile(r"\[INFO\] Total time: {1,4}(?P<duration>[\d:.]{1,20} ?(?:ms|s|min|h)\b)"), None),
    ),
)

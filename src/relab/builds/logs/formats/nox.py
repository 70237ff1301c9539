"""The log format of Nox: the commands of each session, and the summary of the sessions."""

import re

from relab.builds.logs.formats.descriptor import BlockRule, LogFormat, ResultRule
from relab.builds.logs.models import LineRole
from relab.builds.models import BuildStatus

FORMAT = LogFormat(
    "Nox",
    rules=(
        BlockRule(
            "session that cannot run",
            re.compile(r"nox > (?:Session .{1,200} failed: \S|Program .{1,300} not found|Failed to |Error while )"),
            weight=0.9,
        ),
        BlockRule(
            "result of a session",
            re.compile(
                r"nox > (?:Command .{1,1500} failed with exit code|Session .{1,200} (?:failed|aborted|was interrupted)\.?$|\* .{1,200}: (?:failed|aborted))"
            ),
            weight=0.2,
            role=LineRole.CONSEQUENCE,
        ),
    ),
    noise=re.compile(r"nox > (?!Session .{1,200} failed: |Program |Failed to |Error )"),
    step_starts=re.compile(
        r"nox > (?!Session |Command |Ran \d|\* |Running session|uv binary|Program |Creating |Re-using |Failed |Error )\S"
    ),
    # If a command was silent, its output follows the line, which then ends with a colon.
    step_fails=re.compile(r"nox > Command .{1,1500} failed with exit code -?\d{1,10}$"),
    results=(
        ResultRule(
            re.compile(
                r"nox > (?:Session .{1,200} (?:failed|aborted)\b|\* .{1,200}: (?:failed|aborted))|nox > Error while "
            ),
            BuildStatus.FAILED,
            is_outer=True,
        ),
        ResultRule(
            re.compile(r"nox > (?:Session .{1,200} was successful|\* .{1,200}: success)"),
            BuildStatus.SUCCESS,
            yields_to=(BuildStatus.FAILED,),
            is_outer=True,
        ),
    ),
)

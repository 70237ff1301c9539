"""The log format of Travis CI: the commands of a job, and their exit codes."""

import re

from relab.builds.logs.formats.descriptor import BlockRule, LogFormat, ResultRule
from relab.builds.logs.models import LineRole
from relab.builds.models import BuildStatus

FORMAT = LogFormat(
    "Travis CI",
    ci="travis",
    rules=(
        BlockRule(
            "the job ended by a limit",
            re.compile(
                r"No output has been received in the last|The (?:job|log) (?:length )?(?:has )?exceeded the (?:maximum|limit)"
            ),
        ),
        BlockRule(
            "a command failed",
            re.compile(r'The command ".{1,1000}" (?:failed|exited with [1-9])'),
            weight=0.3,
            role=LineRole.CONSEQUENCE,
        ),
    ),
    noise=re.compile(r"Done\. Your build exited|store build cache"),
    step_starts=re.compile(r"\$ \S"),
    step_fails=re.compile(r'The command ".{1,1000}" (?:failed|exited with [1-9])'),
    results=(
        ResultRule(re.compile(r"Done\. Your build exited with 0\b"), BuildStatus.SUCCESS, is_final=True),
        ResultRule(re.compile(r"Done\. Your build exited with [1-9]"), BuildStatus.FAILED, is_final=True),
        # A part of a log.
        ResultRule(
            re.compile(r'The command ".{1,1000}" (?:failed and )?exited with [1-9]\d{0,4} during \.?'),
            BuildStatus.FAILED,
        ),
        # A command of the setup failed, or the job hit a limit; the job then has no line "Done".
        ResultRule(
            re.compile(
                r"Your build has been stopped\.|The (?:build|job) (?:exceeded the maximum .{1,60}, and )?has been terminated"
            ),
            BuildStatus.FAILED,
            is_final=True,
        ),
        ResultRule(re.compile(r"Done: Job Cancell?ed"), BuildStatus.INTERRUPTED, is_final=True),
    ),
)

"""The log format of GitLab CI: the commands of a job, and the end of the job."""

import re

from relab.builds.logs.formats.descriptor import BlockRule, LogFormat, ResultRule
from relab.builds.logs.models import LineRole
from relab.builds.models import BuildStatus

FORMAT = LogFormat(
    "GitLab CI",
    ci="gitlab",
    ci_sign=re.compile(r"Running with gitlab-runner "),
    rules=(
        BlockRule("the runner failed", re.compile(r"ERROR: Job failed \(system failure\)|ERROR: Preparation failed")),
        BlockRule(
            "result of the job",
            re.compile(r"ERROR: Job failed: (?:exit|command)"),
            weight=0.2,
            role=LineRole.CONSEQUENCE,
        ),
        BlockRule("the job ended by a time limit", re.compile(r"ERROR: Job failed: execution took longer")),
    ),
    noise=re.compile(r"ERROR: Job failed: (?:exit|command)|Cleaning up project directory|Uploading artifacts"),
    step_starts=re.compile(r"\$ \S"),
    step_fails=re.compile(r"ERROR: Job failed"),
    results=(
        ResultRule(re.compile(r"Job succeeded"), BuildStatus.SUCCESS, is_final=True),
        ResultRule(re.compile(r"ERROR: Job failed: cancell?ed"), BuildStatus.INTERRUPTED, is_final=True),
        ResultRule(re.compile(r"ERROR: (?:Job failed|Preparation failed)"), BuildStatus.FAILED, is_final=True),
    ),
)

"""The log format of Azure Pipelines: the start and the end of each task.

Its annotations, such as `##[error]`, look like those of GitHub Actions; `github.py` recognises both.
"""

import re

from relab.builds.logs.formats.descriptor import LogFormat, ResultRule
from relab.builds.models import BuildStatus

FORMAT = LogFormat(
    "Azure Pipelines",
    ci="azure",
    ci_sign=re.compile(r"Task {9}: \S|Agent name: '"),
    noise=re.compile(
        r"={10,}$|={10,} Starting Command Output ={10,}$|(?:Task|Description|Version|Author|Help) +: |Generating script\.$|(?:Starting|Finishing): "
    ),
    step_starts=re.compile(r"##\[section\]Starting: "),
    results=(
        # Azure prints no result of a job that succeeded. A task that only starts did not end.
        ResultRule(re.compile(r"##\[section\]Starting: "), BuildStatus.UNKNOWN, is_final=True, is_default=True),
        ResultRule(re.compile(r"##\[section\]Finishing: "), BuildStatus.SUCCESS, is_final=True, is_default=True),
    ),
)

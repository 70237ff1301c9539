"""The log format of Docker and BuildKit."""

import re

from relab.builds.logs.formats.descriptor import BlockRule, LogFormat, ResultRule
from relab.builds.models import BuildStatus

FORMAT = LogFormat(
    "Docker",
    rules=(
        BlockRule(
            "error of BuildKit",
            re.compile(r"ERROR: (?:failed to|process |pull access|unauthorized|toomanyrequests)|failed to solve: "),
            weight=0.9,
        ),
        BlockRule(
            "error of the Docker daemon",
            re.compile(
                r"(?:docker: )?Error response from daemon: |Cannot connect to the Docker daemon|toomanyrequests: |manifest (?:for .{1,300} not found|unknown)"
            ),
            weight=0.95,
        ),
        BlockRule(
            "failed step of a Dockerfile",
            re.compile(r" > \[.{1,300}\]|The command '.{1,1000}' returned a non-zero code"),
            re.compile(r"\d+\.\d+ |[>-]|\s*\d+ \|"),
            weight=0.8,
            max_lines=60,
        ),
    ),
    noise=re.compile(
        r"#\d+ (?:DONE|CACHED|sha256|extracting|transferring|resolve|exporting|writing|naming)|[0-9a-f]{12}: (?:Pulling|Waiting|Download|Pull|Verifying|Extracting)"
    ),
    results=(
        # BuildKit shows the instruction that failed.
        ResultRule(
            re.compile(r"(?:docker/)?Dockerfile[\w.-]{0,60}:\d{1,6}$"),
            BuildStatus.FAILED,
            follows=re.compile(r"-{6}$"),
        ),
        ResultRule(
            re.compile(
                r"The command '.{1,1500}' returned a non-zero code: \d|(?:ERROR: )?failed to (?:solve|build):|#\d{1,6} ERROR: |executor failed running \["
                r"|(?:COPY|ADD) failed: "
            ),
            BuildStatus.FAILED,
        ),
        ResultRule(
            re.compile(r"Successfully built [0-9a-f]{12}$|#\d{1,6} naming to \S{1,300} done$"), BuildStatus.SUCCESS
        ),
    ),
)

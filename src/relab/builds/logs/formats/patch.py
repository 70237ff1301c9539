"""The log format of patch: hunks that do not apply."""

import re

from relab.builds.logs.formats.descriptor import BlockRule, LogFormat, ResultRule
from relab.builds.models import BuildStatus

FORMAT = LogFormat(
    "patch",
    rules=(
        # The first line names the file; without a failed hunk, the patch applies.
        BlockRule(
            "patch that does not apply",
            re.compile(r"patching file \S"),
            re.compile(
                r"Hunk #\d+ FAILED|\d+ out of \d+ hunks? (?:FAILED|ignored)|dpkg-source: info: (?:the patch has fuzz|if )"
                r"|No file to patch|can't find file to patch"
            ),
            weight=0.9,
            max_lines=40,
            needs_more=True,
        ),
    ),
    results=(ResultRule(re.compile(r"\d{1,6} out of \d{1,6} hunks? (?:FAILED|ignored)"), BuildStatus.FAILED),),
)

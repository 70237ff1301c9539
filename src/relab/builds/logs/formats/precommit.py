"""The log format of pre-commit: one line for each hook, and the output of hooks that failed."""

import re

from relab.builds.logs.formats.descriptor import BlockRule, LogFormat, ResultRule
from relab.builds.logs.models import LineRole
from relab.builds.models import BuildStatus

FORMAT = LogFormat(
    "pre-commit",
    rules=(
        BlockRule("hook that changed files", re.compile(r"- files were modified by this hook$"), weight=0.85),
        BlockRule(
            "hook that cannot run",
            re.compile(r"Executable `.{1,300}` not found$|An (?:unexpected )?error has occurred: "),
            re.compile(r"=+> \S"),
            weight=0.9,
            max_lines=10,
        ),
        BlockRule(
            "result of a hook",
            re.compile(r"[^.]{1,77}+\.{3,79}+Failed$|- (?:hook id: |exit code: |duration: )"),
            weight=0.2,
            role=LineRole.CONSEQUENCE,
        ),
        BlockRule(
            "changes of the hooks",
            re.compile(r"All changes made by hooks:$"),
            re.compile(r"diff --git |index |--- |\+\+\+ |@@|[ +\\-]"),
            weight=0.5,
            max_lines=200,
        ),
    ),
    noise=re.compile(
        r"[^.]{1,77}+\.{3,79}+(?:\(.{1,40}\))?(?:Passed|Skipped)$|\[INFO\] |pre-commit hook\(s\) made changes\."
    ),
    results=(
        # The other hooks run after a failed one, also those that run tests.
        ResultRule(
            re.compile(r"- (?:exit code: [1-9]|files were modified by this hook$)"), BuildStatus.FAILED, is_lasting=True
        ),
        ResultRule(re.compile(r"[^.]{1,77}+\.{3,79}+Passed$"), BuildStatus.SUCCESS, yields_to=(BuildStatus.FAILED,)),
    ),
)

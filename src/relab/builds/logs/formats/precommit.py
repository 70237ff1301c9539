"""The log format of pre-commit: one line for each hook, and the output of hooks that failed."""

import re

from relab.builds.logs.formats.descriptor import BlockRule, LogFormat, ResultRule
from relab.builds.logs.models import LineRole
from relab.builds.models import BuildStatus

_HOOK = r"(?=.{79,300}$)[^.]{1,200}+\.{3,300}+"
"""The name of a hook and the dots after it; with the result, a line has at least 79 characters."""

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
            re.compile(rf"{_HOOK}Failed$|- (?:hook id: |exit code: |duration: )"),
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
    noise=re.compile(rf"{_HOOK}(?:\(.{{1,40}}\))?(?:Passed|Skipped)$|\[INFO\] |pre-commit hook\(s\) made changes\."),
    results=(
        # The other hooks run after a failed one, also those that run tests.
        ResultRule(
            re.compile(r"- (?:exit code: [1-9]|files were modified by this hook$)"), BuildStatus.FAILED, is_lasting=True
        ),
        ResultRule(re.compile(rf"{_HOOK}Passed$"), BuildStatus.SUCCESS, yields_to=(BuildStatus.FAILED,)),
    ),
)

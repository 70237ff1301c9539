"""The log format of programs that run the tasks of a project: gulp, Grunt, doit and Invoke."""

import re

from relab.builds.logs.formats.descriptor import BlockRule, LogFormat, ResultRule
from relab.builds.models import BuildStatus

_GULP = r"\[\d\d:\d\d:\d\d\] "
# The first character is outside of the group, so that most lines are rejected at once.
_DOIT = r"[DSTU](?:askFailed|askError|ependencyError|etupError|nmetDependency) - taskid:\S"

FORMAT = LogFormat(
    "task runners",
    rules=(
        BlockRule(
            "error of gulp",
            re.compile(rf"{_GULP}(?:Task never defined: |(?:\w{{0,60}}Error|Error)(?: in plugin)?\b[: ])"),
            re.compile(r"\s+\S"),
            weight=0.9,
            max_lines=20,
        ),
        BlockRule("failed task of gulp", re.compile(rf"{_GULP}'.{{1,200}}' errored after "), weight=0.5),
        BlockRule("error of Grunt", re.compile(r"Warning: \S.{0,1000}? Use --force to continue\.$"), weight=0.9),
        BlockRule(
            "missing plug-in of Grunt",
            re.compile(r">> Local Npm module \"[^\"]{1,200}\" not found\. Is it installed\?"),
            weight=0.9,
        ),
        BlockRule(
            "failed task of doit",
            re.compile(_DOIT),
            re.compile(r"\S"),
            weight=0.9,
            max_lines=2,
        ),
        BlockRule("error of Invoke", re.compile(r"No idea what '.{1,200}' is!$"), weight=0.9),
    ),
    headers=re.compile(r"(?:DependencyError|SetupError|UnmetDependency) - taskid:\S"),
    noise=re.compile(rf"{_GULP}(?:Using gulpfile |Starting |Finished )"),
    results=(
        ResultRule(re.compile(rf"{_GULP}(?:'.{{1,200}}' errored after |Task never defined: )"), BuildStatus.FAILED),
        ResultRule(
            re.compile(rf"{_GULP}Finished '.{{1,200}}' after (?P<duration>[\d.]{{1,12}} ?(?:μs|ms|s|min))"),
            BuildStatus.SUCCESS,
            yields_to=(BuildStatus.FAILED,),
            between=re.compile(rf"{_GULP}Using gulpfile "),
        ),
        ResultRule(re.compile(r"Aborted due to warnings\.$"), BuildStatus.FAILED),
        ResultRule(re.compile(r"Done, (?:without errors|but with warnings)\.$"), BuildStatus.SUCCESS),
        ResultRule(
            re.compile(r"Done\.$"),
            BuildStatus.SUCCESS,
            follows=re.compile(r"Running \"[^\"]{1,200}\"(?: \([^)]{1,200}\))? task$"),
            within=2_000,
        ),
        ResultRule(re.compile(_DOIT), BuildStatus.FAILED),
        ResultRule(re.compile(r"No idea what '.{1,200}' is!$"), BuildStatus.FAILED),
    ),
)

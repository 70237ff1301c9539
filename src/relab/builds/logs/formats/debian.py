"""The log format of Debian's tools that build packages: dpkg-buildpackage, dpkg-source, debhelper and sbuild."""

import re

from relab.builds.logs.formats.descriptor import BlockRule, LogFormat, ResultRule
from relab.builds.logs.models import LineRole
from relab.builds.models import BuildStatus

_ERROR = r"(?:error|Fehler|erreur|fout|fel|eroare|erro|ошибка|помилка|错误)\s?: "
"""The word before an error of dpkg's tools, in the languages into which they are translated."""

FORMAT = LogFormat(
    "Debian packages",
    rules=(
        BlockRule("missing build dependencies", re.compile(rf"dpkg-checkbuilddeps: {_ERROR}"), weight=0.95),
        BlockRule(
            "a command of debhelper failed",
            re.compile(r"dh_\w{1,40}: error: .{0,1900}\b(?:returned exit code|subprocess|died)\b"),
            weight=0.3,
            role=LineRole.CONSEQUENCE,
        ),
        BlockRule(
            "a command of dpkg-buildpackage failed",
            re.compile(
                rf"dpkg-(?:buildpackage|source): {_ERROR}.{{0,1000}}(?:exit status|Exit-Status|code de (?:retour|sortie)) ?\d"
            ),
            weight=0.3,
            role=LineRole.CONSEQUENCE,
        ),
        BlockRule(
            "file that debhelper misses", re.compile(r"dh_\w{1,40}: (?:warning: Cannot find|error: )"), weight=0.85
        ),
        BlockRule(
            "error of dpkg's tools",
            re.compile(rf"(?:dpkg(?:-\w{{1,40}})?|dpkg-parsechangelog|parsechangelog/debian): {_ERROR}"),
            weight=0.9,
        ),
    ),
    noise=re.compile(
        r"dpkg-\w{1,40}: info: (?!the patch has fuzz)| {3}dh_\w{1,40}(?: |$)| {3}create-stamp | dpkg-\w{1,40} -|dh (?:clean|binary|build)"
        r"| debian/rules [\w-]{1,30}$"
    ),
    step_starts=re.compile(r" {3}(?:dh_\w{1,40}|debian/rules override_\w{1,60})(?: -\w)?$"),
    results=(
        ResultRule(re.compile(rf"dpkg-buildpackage: {_ERROR}|dpkg-checkbuilddeps: {_ERROR}"), BuildStatus.FAILED),
        ResultRule(
            re.compile(
                r"dpkg-buildpackage: info: (?:binary-only|source-only|full|binary and diff) upload|dpkg-deb: building package '"
            ),
            BuildStatus.SUCCESS,
        ),
        # sbuild.
        ResultRule(re.compile(r"Fail-Stage: \S|Status: (?:attempted|given-back)$"), BuildStatus.FAILED),
    ),
)

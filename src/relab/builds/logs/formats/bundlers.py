"""The log format of bundlers for JavaScript: webpack, Rspack, Rollup, esbuild, Vite and Parcel."""

import re

from relab.builds.logs.formats.descriptor import BlockRule, LogFormat, ResultRule
from relab.builds.logs.models import LineRole
from relab.builds.models import BuildStatus

FORMAT = LogFormat(
    "bundlers",
    rules=(
        BlockRule(
            "error of webpack",
            re.compile(r"ERROR in \S"),
            re.compile(r".*\S"),
            until=re.compile(r"webpack \d|Rspack compiled|(?:ERROR|WARNING) in "),
            weight=0.9,
            max_lines=40,
        ),
        BlockRule(
            "error of webpack's command",
            re.compile(r"\[webpack-cli\] (?:✖ |Error: |Failed to load)\S?"),
            re.compile(r"\s+\S"),
            weight=0.9,
            max_lines=20,
        ),
        BlockRule(
            "error of Rollup",
            re.compile(r"\[!\] (?:\(plugin .{1,100}\) )?(?:\w{0,60}Error|Error): \S"),
            re.compile(r"\S{1,300} \(\d+:\d+\)$|\d+: |\s+\^"),
            bridge=1,
            weight=0.95,
            max_lines=12,
        ),
        BlockRule(
            "error of esbuild",
            re.compile(r"✘ \[ERROR\] \S"),
            re.compile(r"\s+\S"),
            bridge=1,
            weight=0.95,
            max_lines=20,
        ),
        BlockRule(
            "error of Rolldown",
            re.compile(r"\[[A-Z]+(?:_[A-Z]+){1,8}\] \S"),
            re.compile(r"\s+\S|───"),
            weight=0.9,
            max_lines=20,
        ),
        BlockRule(
            "error of Parcel",
            re.compile(r"@parcel/[\w-]{1,60}: \S"),
            re.compile(r" {2,}\S"),
            bridge=1,
            weight=0.9,
            max_lines=20,
        ),
        BlockRule(
            "result of the bundler",
            re.compile(
                r"(?:✗|x) Build failed in |🚨 Build failed\.$|error during build:$|Build failed with \d{1,6} errors?:$"
            ),
            weight=0.3,
            role=LineRole.CONSEQUENCE,
        ),
    ),
    headers=re.compile(r"ERROR in \S"),
    noise=re.compile(
        r"(?:asset|assets by \w+|orphan modules|runtime modules|cacheable modules) |\.{0,2}/\S{1,300} [\d.]+ (?:bytes|[KM]iB)"
    ),
    results=(
        ResultRule(re.compile(r"webpack \d[\w.-]{0,30} compiled with [1-9]\d{0,8} errors?\b"), BuildStatus.FAILED),
        ResultRule(
            re.compile(
                r"webpack \d[\w.-]{0,30} compiled (?:successfully|with [1-9]\d{0,8} warnings?)(?: in (?P<duration>\d{1,9} m?s))?$"
            ),
            BuildStatus.SUCCESS,
        ),
        ResultRule(re.compile(r"\[webpack-cli\] (?:✖ |Error: |Failed to load)"), BuildStatus.FAILED),
        ResultRule(re.compile(r"\[!\] (?:\(plugin .{1,100}\) )?(?:\w{0,60}Error|Error): "), BuildStatus.FAILED),
        ResultRule(re.compile(r"✘ \[ERROR\] \S"), BuildStatus.FAILED),
        ResultRule(
            re.compile(r"(?:✗|x) Build failed in (?P<duration>[\d.]{1,12}m?s)$|error during build:$"),
            BuildStatus.FAILED,
        ),
        # Rollup, which names the files before; warnings may be between.
        ResultRule(
            re.compile(r"created \S.{0,300} in (?P<duration>[\d.]{1,12}m?s)$"),
            BuildStatus.SUCCESS,
            follows=re.compile(r"\S[^→]{0,300} → .{1,300}\.\.\.$"),
            within=2_000,
        ),
        ResultRule(re.compile(r"Rspack compiled with [1-9]\d{0,8} errors?\b"), BuildStatus.FAILED),
        ResultRule(
            re.compile(
                r"Rspack compiled (?:successfully|with [1-9]\d{0,8} warnings?) in (?P<duration>[\d.]{1,12} ?m?s)$"
            ),
            BuildStatus.SUCCESS,
        ),
        ResultRule(re.compile(r"🚨 Build failed\.$"), BuildStatus.FAILED),
        ResultRule(re.compile(r"✨ Built in (?P<duration>[\d.]{1,12} ?m?s)$"), BuildStatus.SUCCESS),
        ResultRule(re.compile(r"⚡ Done in (?P<duration>[\d.]{1,12}m?s)$"), BuildStatus.SUCCESS),
        ResultRule(re.compile(r"✓ built in (?P<duration>[\d.]{1,12}m?s)$"), BuildStatus.SUCCESS),
    ),
)

"""The fallback format: lines of any program that mention a failure and match no other format."""

import re

from relab.builds.logs.formats.descriptor import BlockRule, LogFormat

_WORDS = (
    r"\b(?:errors?|fatal|fail(?:ed|ure|ures|s)?|exception|panic(?:ked)?|cannot|can't|could not|couldn't|unable to|undefined|not found|missing"
    r"|invalid|denied|refused|timed out|timeout|aborted|mismatch|does not exist|unexpected|expected|out of date|unsupported)\b"
)
_STEMS = (
    "error",
    "fatal",
    "fail",
    "exception",
    "panic",
    "cannot",
    "can't",
    "could not",
    "couldn't",
    "unable to",
    "undefined",
    "not found",
    "missing",
    "invalid",
    "denied",
    "refused",
    "timed out",
    "timeout",
    "abort",
    "mismatch",
    "does not exist",
    "expected",
    "out of date",
    "unsupported",
)
_HARMLESS = r"(?i:(?:\b(?:0|no) (?:errors?|failures?|failed)\b|without errors?|(?:errors?|fail(?:ed|ures)?)[:=] ?0\b|\bignored?\b|allowed to fail))"

FORMAT = LogFormat(
    "any program",
    rules=(
        BlockRule(
            "error level",
            re.compile(r"(?:\S{1,40}+ ){0,4}\[?(?:ERROR|FATAL|CRITICAL|SEVERE)\b\]?(?! ?(?:s|rate|log)\b)"),
            weight=0.6,
        ),
        BlockRule("reported error", re.compile(r"(?i:\s*(?:error|fatal|failure|failed)\b[ :!])"), weight=0.6),
        BlockRule("mention of a failure", re.compile(_WORDS), weight=0.4, words=_STEMS),
    ),
    harmless=re.compile(_HARMLESS),
    noise=re.compile(
        r"\s*[-=_*#~.]{4,}\s*$|(?i:.{0,40}\b(?:download(?:ing|ed)|fetched|installing|unpacking|setting up|preparing to unpack)\b)"
    ),
    is_vague=True,
)

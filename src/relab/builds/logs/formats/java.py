"""The log format of Java: errors of javac, and stack traces of the virtual machine."""

import re

from relab.builds.logs.formats.descriptor import BlockRule, LogFormat

_FRAMES = r"\s+at \S|\s*Caused(?: by)?: ?|\s*Also: |\s*Suppressed: |\s*\.\.\. \d+ (?:more|common frames)"
_THROWABLE = r"(?:[a-zA-Z_][\w$]{0,100}\.){1,12}[A-Z][\w$]{0,100}(?:Exception|Error|Failure|Throwable|Shutdown)"

FORMAT = LogFormat(
    "Java",
    rules=(
        BlockRule(
            "stack trace",
            re.compile(
                rf"\s*(?:Exception in thread \"[^\"]{{0,200}}\" |Caused by: |Unexpected exception: )?{_THROWABLE}\b(?!\()"
            ),
            re.compile(rf"{_FRAMES}|\s*{_THROWABLE}\b"),
            bridge=6,
            weight=0.85,
        ),
        BlockRule(
            "stack trace without its message",
            re.compile(
                r"\s+at (?:[\w$.]{1,100}/{1,2})?[\w$.<>]{1,300}\([\w$. ]{1,100}(?:\.java|\.kt|Native Method|Unknown Source)"
            ),
            re.compile(_FRAMES),
            bridge=2,
            weight=0.6,
        ),
        BlockRule(
            "compiler error",
            re.compile(r"(?:[A-Z]:)?[^\s:]{1,400}\.(?:java|kt|scala|groovy):\d+: (?:error|fatal)"),
            re.compile(r"\s+\S"),
            until=re.compile(r"\d+ (?:errors?|warnings?)$"),
            bridge=2,
            weight=0.95,
            max_lines=12,
        ),
        BlockRule(
            "crash of the virtual machine",
            re.compile(
                r"# A fatal error has been detected|# There is insufficient memory|java\.lang\.OutOfMemoryError"
            ),
            re.compile(r"#"),
            weight=0.95,
        ),
    ),
)

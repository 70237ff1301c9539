"""The log format of Python: tracebacks, errors of pip, and findings of type checkers and linters."""

import re

from relab.builds.logs.formats.descriptor import BlockRule, LogFormat

FORMAT = LogFormat(
    "Python",
    rules=(
        BlockRule(
            "traceback",
            re.compile(r"\s*Traceback \(most recent call last\)"),
            re.compile(
                r"\s+\S|(?:[A-Za-z_][\w.]{0,200})?(?:Error|Exception|Interrupt|Exit|Warning)\b|[A-Za-z_]\w{0,80}(?:\.\w{1,80}){1,8}: "
                r"|During handling of the above|The above exception was|Traceback "
            ),
            bridge=2,
            weight=0.95,
        ),
        BlockRule(
            "error of the syntax",
            re.compile(r'  File "[^"]{1,400}", line \d+'),
            re.compile(r"\s+\S|\w{1,80}Error: "),
            weight=0.9,
            max_lines=8,
        ),
        # Old versions of pip then install the package without a wheel; a line that names the command ends the installation.
        BlockRule(
            "wheel that pip could not build",
            re.compile(r"\s{0,8}ERROR: (?:Failed building wheel for|Command errored out with exit status \d{1,9}:$)"),
            re.compile(r"\s+\S|╰─>|note: "),
            bridge=1,
            weight=0.9,
            max_lines=60,
            failed=re.compile(r"\s{0,8}ERROR: Failed building wheel for (?P<name>\S{1,200})"),
            survived=re.compile(r"\s*Successfully installed (?P<names>\S.*)"),
        ),
        BlockRule(
            "error of pip",
            re.compile(r"\s{0,8}ERROR: |error: (?:subprocess-exited-with-error|metadata-generation-failed)|  \xd7 "),
            re.compile(r"\s+\S|╰─>|note: "),
            bridge=1,
            weight=0.9,
            max_lines=60,
        ),
        BlockRule(
            "dependencies that a build needs",
            re.compile(r"ERROR (?:Missing|Unmet) dependencies\b"),
            re.compile(r"\s+\S"),
            weight=0.9,
            max_lines=20,
        ),
        BlockRule(
            "exception", re.compile(r"(?:[a-z_]\w{0,80}\.){0,6}[A-Z]\w{0,80}(?:Error|Exception): \S"), weight=0.8
        ),
        BlockRule(
            "finding of a type checker or linter",
            re.compile(
                r"[\w./-]{1,300}\.pyi?:\d+(?::\d+)?: (?:error:|[EFWC]\d{3,4}\b|un(?:used|reachable) .{1,300} \(\d{1,3}% confidence)"
            ),
            weight=0.9,
        ),
    ),
)

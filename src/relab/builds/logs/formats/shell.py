"""The log format of the shell and the kernel: missing commands, denied access, signals, memory and disk."""

import re

from relab.builds.logs.formats.descriptor import BlockRule, LogFormat

FORMAT = LogFormat(
    "shell",
    rules=(
        BlockRule(
            "missing command",
            re.compile(r": command not found\b|: not found$|^env: .{1,200}: no such file"),
            weight=0.9,
            words=("not found", "no such file"),
        ),
        BlockRule(
            "no memory or disk",
            re.compile(
                r"\b(?:out of memory|cannot allocate memory|no space left on device|oom-?kill|disk quota exceeded)"
            ),
            weight=0.95,
            words=("memory", "space left", "oom", "quota"),
        ),
        BlockRule(
            "killed by a signal",
            re.compile(
                r"(?:^|: line \d+: +\d+ |^\w{1,20}: \*\*\* .{0,200})(?:killed|terminated|segmentation fault|aborted|bus error)\b(?! \w)"
            ),
            weight=0.9,
            words=("killed", "terminated", "segmentation", "abort", "bus error"),
        ),
        BlockRule(
            "failed system call",
            re.compile(
                r"(?:[\w./+-]{1,200}: ){1,6}.{0,300}(?:No such file or directory|Permission denied|Connection refused|Connection timed out|Is a directory|Name or service not known|Could not resolve host)"
            ),
            weight=0.85,
        ),
        BlockRule(
            "error of a program",
            re.compile(
                r"(?!warning: |note: )(?:[\w./+-]{1,200}: ){1,3}(?i:error|fatal|failed|cannot|unable to|unknown option|invalid option)\b"
            ),
            weight=0.7,
        ),
    ),
    noise=re.compile(r"\++ \S"),
    is_vague=True,
)

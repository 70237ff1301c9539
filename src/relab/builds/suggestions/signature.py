"""Identify how a build failed: make a template of the log line that shows the failure, and a key from the template.

Builds with the same template count as failed in the same way.
"""

from __future__ import annotations

import re
from typing import Final

from relab.builds.logs.templates import mask_numbers
from relab.core.json import digest
from relab.core.masking import mask_secrets

MAX_TEMPLATE_CHARS: Final = 300
KEY_CHARS: Final = 32

_KEPT: Final = re.compile(
    r"((?<![\w.-])[A-Z]{1,6}\d{2,6}(?![\w.])"
    r"|\b(?i:HTTP/\d(?:\.\d)?)[\"']?[ ]\d{3}\b"
    r"|\b(?i:codes?|status|signal|errno|error|HTTP|returned|responded)(?:[ ](?i:code|status))?[ :=#(]{0,3}\d{1,5}(?![\w.:]))"
)
"""Numbers that identify the failure: error codes such as TS2307 and E0432, exit codes, signals, HTTP statuses."""
_TEMPORARY: Final = re.compile(r"(/(?:var/)?tmp/)[^\s'\":;,)]+")
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f]")


def failure_template(text: str) -> str:
    """Return the template of a log line: at most 300 characters, without the parts that differ between builds.

    Secrets are masked. Numbers and digests become `#`; so does the part of a path after `/tmp/`. Numbers that identify
    the failure stay, as in `exit code 137` and `TS2307`.
    """
    # Recorded builds keep this much of a line.
    shown = _CONTROL.sub(" ", mask_secrets(text))[:MAX_TEMPLATE_CHARS]
    parts = _KEPT.split(_TEMPORARY.sub(r"\1#", shown))
    masked = "".join(part if position % 2 else mask_numbers(part) for position, part in enumerate(parts))
    return " ".join(masked.split())


def failure_key(template: str) -> str:
    """Return the key that identifies a kind of failure: a digest of its template, as 32 hexadecimal characters.

    `template` is the result of `failure_template`: a log line with `#` in place of numbers.
    """
    return digest(template).rpartition(":")[2][:KEY_CHARS]

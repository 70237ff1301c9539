"""Recognise whether a step or a tool call reports an error, from its status, error fields, status code or result."""

from __future__ import annotations

import re
from typing import Final

from relab.telemetry.models import StepStatus

_IN_BAND_TEXT = re.compile(
    r"\s*[^\w{\"']{0,3}(?:"
    r"(?:an? )?(?:error|exception|fatal|failed|failure)\b[^:\n]{0,60}:"
    r"|(?:i )?encountered (?:an )?error\b"
    r"|error (?:executing|calling|running|invoking) tool\b"
    r"|unknown (?:tool|function)(?: name)?:? [\"'`]|tool [\"'`]?[\w.-]{1,100}[\"'`]? not found\b"
    r"|(?:tool (?:call|execution)|function call|request|execution) failed\b"
    r"|(?-i:(?:\w+\.)*[A-Z]\w*(?:Error|Exception)\s*[:(])"
    r"|HTTP (?:error )?(?:400|401|403|422|429|5\d\d)\s*(?:[:(]|$)"
    r"|(?:HTTP (?:error )?)?(?:400|401|403|422|429|5\d\d):? (?:bad request|unauthorized|forbidden|unprocessable|too many requests|internal server error"
    r"|bad gateway|service unavailable|gateway time-?out|client error|server error)\s*(?:[:.,(\n]|$)"
    r"|[^.,:\n]{1,60} requires permission to use [^,\n]{1,120}, but that permission was declined\b"
    r"|traceback \(most recent call last\)"
    r"|exit ?code: [1-9])",
    re.IGNORECASE,
)
_IN_BAND_JSON = re.compile(
    r"""\s*\{\s*["'](?:(?:error|errors|error_message|exception)["']\s*:\s*(?!\s|null|None|""|\'\'|\[\s*\]|\{\s*\}|false|False)"""
    r"""|(?:status|success|ok)["']\s*:\s*(?:["'](?:error|failed|failure)["']|false|False))"""
)
"""JSON, or the text of a Python dictionary."""


def filled(text: str | None) -> str | None:
    """Return `text` unchanged; None if the text is absent or blank."""
    return text if text is not None and text.strip() else None


def is_cancellation(error_class: str) -> bool:
    """Return whether an error class says only that a person or a program cancelled the work."""
    return error_class.rpartition(".")[2] in _CANCELLED


_CANCELLED: Final = frozenset(("CancelledError", "KeyboardInterrupt", "AbortError", "cancelled", "canceled"))


def is_error_in_result(text: str) -> bool:
    """Return whether the result of a tool begins like an error.

    For example, it begins with `Error: ...`, a traceback, `HTTP 500`, `exit code: 1`, `{"error": ...}` or
    `{"success": false}`. An `error` that is empty or false means no error.
    """
    # Some tools return an error instead of raising it; a text that mentions errors later is content.
    return bool(_IN_BAND_TEXT.match(text) or _IN_BAND_JSON.match(text))


def is_error_code(status_code: int | None) -> bool:
    """Return whether an HTTP status code marks a call as failed, even if the call's status is success.

    These are the codes from 400 to 599 except 404 and 410 (not found).
    """
    return status_code is not None and 400 <= status_code < 600 and status_code not in (404, 410)


def reports_error(
    status: StepStatus,
    error_class: str | None,
    error_message: str | None,
    result: str | None,
    status_code: int | None = None,
) -> bool:
    """Return whether a step or a tool call reports an error.

    The result is True in each of these cases:

    - The status is failure.
    - There is an error class or an error message that is not blank.
    - The status is success, but the status code is that of an error (`is_error_code`) or the result is the text of an
      error (`is_error_in_result`).
    """
    if status is StepStatus.FAILURE or filled(error_class) or filled(error_message):
        return True
    if status is not StepStatus.SUCCESS:
        return False
    return is_error_code(status_code) or (result is not None and is_error_in_result(result))

"""Read status code, code, waiting time and limit from the error of a model provider, which reports them in its text."""

from __future__ import annotations

import re
from typing import Any, Final

MAX_CHARS = 20_000
MAX_CODE_CHARS = 100

_STATUS: Final = re.compile(
    r"(?:error code|status[ _]code|status|http(?:/[\d.]+)?|code)['\"]?\s*[:=]?\s*['\"(\[]?(?P<code>[45]\d\d)\b"
    r"|\b(?P<named>[45]\d\d)[ :,-]+(?:too many requests|unauthorized|forbidden|bad request|not found|internal server error"
    r"|service unavailable|bad gateway|gateway time-?out|overloaded)"
    r"|^\s*(?P<first>[45]\d\d)\b",
    re.IGNORECASE,
)
_CODE: Final = re.compile(r"['\"](?:code|type)['\"]\s*:\s*['\"](?P<code>[A-Za-z][\w.-]{1,99})['\"]")
_GENERAL_CODES: Final = frozenset(("error", "tokens", "requests", "invalid_request_error", "api_error"))
_RETRY: Final = re.compile(
    r"(?:retry[-_ ]?(?:after|delay|in)(?:[-_ ](?:ms|seconds))?|try again (?:in|after)|retry after|wait)['\"]?\s*[:=]?\s*['\"]?"
    r"(?:(?P<minutes>\d{1,4})m(?=\d))?(?P<time>\d{1,7}(?:\.\d{1,6})?)\s*(?P<unit>ms|milliseconds?|s|sec|seconds?|m|min|minutes?|h|hours?)?\b",
    re.IGNORECASE,
)
_LIMIT: Final = re.compile(r"\blimit(?:\s+of)?['\"]?\s*[:=]?\s*(?P<limit>\d{1,15})\b", re.IGNORECASE)
_SECONDS: Final = {"ms": 0.001, "mil": 0.001, "m": 60.0, "min": 60.0, "h": 3600.0, "hou": 3600.0}
_BY_CLASS: Final = {
    "RateLimitError": 429,
    "AuthenticationError": 401,
    "PermissionDeniedError": 403,
    "NotFoundError": 404,
    "BadRequestError": 400,
    "UnprocessableEntityError": 422,
    "InternalServerError": 500,
}
"""The status codes that the exceptions of model clients stand for, if neither attribute nor text names one."""


def read_provider_error(error_class: str | None, message: str | None, status: Any = None) -> dict[str, Any]:
    """Return what an error of a model call says in its class, its message and the response's status attribute.

    The keys, each only where it is known: `status_code` (int), `error_code` (the provider's name of the error),
    `retry_after_s` (float), `rate_limit` (int, in the unit of the message).
    """
    found: dict[str, Any] = {}
    text = (message or "")[:MAX_CHARS]
    code = _STATUS.search(text)
    if type(status) is int and 400 <= status <= 599:
        found["status_code"] = status
    elif code is not None:
        found["status_code"] = int(code["code"] or code["named"] or code["first"])
    else:
        by_class = _BY_CLASS.get((error_class or "").rpartition(".")[2])
        if by_class is not None:
            found["status_code"] = by_class
    names = [match["code"] for match in _CODE.finditer(text)]
    named = next((name for name in names if name not in _GENERAL_CODES), names[0] if names else None)
    if named is not None:
        found["error_code"] = named[:MAX_CODE_CHARS]
    retry = _RETRY.search(text)
    if retry is not None:
        unit = (retry["unit"] or "s").lower()
        factor = _SECONDS.get(unit) or _SECONDS.get(unit[:3]) or 1.0
        found["retry_after_s"] = round(60.0 * int(retry["minutes"] or 0) + factor * float(retry["time"]), 6)
    limit = _LIMIT.search(text)
    if limit is not None and found.get("status_code") == 429:
        found["rate_limit"] = int(limit["limit"])
    return found

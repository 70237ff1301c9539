"""Read the facts of a model provider's error from its text: HTTP status, error code, waiting time and rate limit."""

# ruff: noqa: RUF001 the words of other languages have other letters

from __future__ import annotations

import re
from typing import Any, Final

MAX_CHARS = 20_000
MAX_CODE_CHARS = 100

_STATUS: Final = re.compile(
    r"(?:error code|status[ _]code|status|http(?:/[\d.]+)?|code|fehlercode|fehler|código(?: de (?:error|estado))?"
    r"|код(?: ошибки| состояния)?|ошибка|错误代码|错误码|状态码|エラーコード|ステータスコード)"
    r"['\"]?\s*[:：=]?\s*['\"(\[（]?(?P<code>[45]\d\d)(?!\w)"
    r"|\b(?P<named>[45]\d\d)[ :,-]+(?:too many requests|unauthorized|forbidden|bad request|not found|internal server error"
    r"|service unavailable|bad gateway|gateway time-?out|overloaded)"
    r"|^\s*(?P<first>[45]\d\d)\b",
    re.IGNORECASE,
)
_CODE: Final = re.compile(r"['\"](?:code|type)['\"]\s*:\s*['\"](?P<code>[A-Za-z][\w.-]{1,99})['\"]")
_GENERAL_CODES: Final = frozenset(("error", "tokens", "requests", "invalid_request_error", "api_error"))
_RETRY: Final = re.compile(
    r"(?:retry[-_ ]?(?:after|delay|in)(?:[-_ ](?:(?P<in_ms>ms)|seconds))?|try again (?:in|after)|retry after|wait)['\"]?\s*[:=]?\s*['\"]?"
    r"(?:(?P<minutes>\d{1,4})m(?=\d))?(?P<time>\d{1,7}(?:\.\d{1,6})?)\s*(?P<unit>ms|milliseconds?|s|sec|seconds?|m|min|minutes?|h|hours?)?\b",
    re.IGNORECASE,
)
_LIMIT: Final = re.compile(r"\blimit(?:\s+of)?['\"]?\s*[:=]?\s*(?P<limit>\d{1,15})\b", re.IGNORECASE)
_RETRY_ELSEWHERE: Final = re.compile(
    r"\b(?:in|nach|warten sie|en|espere|через|подождите)\s+(?P<time>\d{1,7})\s*(?P<unit>sekunden?|minuten?|segundos?|minutos?|секунд\w*|минут\w*)"
    r"|(?P<time_cjk>\d{1,7})\s*(?P<unit_cjk>秒|分)(?:钟)?(?:后|後)",
    re.IGNORECASE,
)
_MINUTES: Final = ("min", "мин", "分")

RATE_WORDS: Final = {
    "en": r"\brate limit\w* (?:was |is |has been )?(?:reached|exceeded|hit)|\btoo many requests|\bquota (?:was |is |has been )?(?:exceeded|exhausted)"
    r"|\bexceeded (?:your|the) (?:current )?(?:quota|rate limit)",
    "de": r"\braten(?:limit|begrenzung)|\bzu viele anfragen|\bkontingent\b.{0,20}\b(?:erschöpft|überschritten|aufgebraucht)",
    "es": r"\bdemasiadas (?:solicitudes|peticiones)|\blímite de (?:solicitudes|peticiones|velocidad|tasa)"
    r"|\b(?:superado|excedido|agotado) su cuota|\bcuota (?:superada|excedida|agotada)",
    "ru": r"\bслишком много запросов|\bпревышен\w* (?:лимит|квот|ограничени)|\b(?:лимит|квот)\w* (?:превышен|исчерпан)",
    "zh": "请求(?:过于|太)?频繁|请求(?:次数)?过多|频率(?:超出|超过|限制)|(?:额度|配额)(?:已|不足|超)|超出.{0,6}(?:配额|额度)|速率限制",
    "ja": "リクエストが多すぎ|レート制限|(?:クォータ|割り当て).{0,6}超",
}
"""Words by which a gateway says that requests came too often or that a quota is used up, by language."""
_RATE: Final = re.compile("|".join(RATE_WORDS.values()), re.IGNORECASE)
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
"""The status codes of exceptions of model clients, used if neither an attribute nor the text names a status code."""


def is_provider_error(error_class: str | None) -> bool:
    """Return whether clients of model providers raise errors of the class `error_class`."""
    return (error_class or "").rpartition(".")[2] in _BY_CLASS


def read_provider_error(error_class: str | None, message: str | None, status: Any = None) -> dict[str, Any]:
    """Return the known facts about an error of a model call.

    Args:
        error_class: the class of the error; None if not known.
        message: the text of the error; None if not known.
        status: the status attribute of the response; ignored unless it is an int from 400 to 599.

    Returns:
        A dictionary without keys for unknown facts:

        - `status_code`: int
        - `error_code`: the provider's name of the error
        - `retry_after_s`: float
        - `rate_limit`: int, the limit in the message, in its unit (such as tokens per minute); only with the status 429
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
        if by_class is None and _RATE.search(text):
            by_class = 429
        if by_class is not None:
            found["status_code"] = by_class
    names = [match["code"] for match in _CODE.finditer(text)]
    named = next((name for name in names if name not in _GENERAL_CODES), names[0] if names else None)
    if named is not None:
        found["error_code"] = named[:MAX_CODE_CHARS]
    retry = _RETRY.search(text)
    if retry is not None:
        unit = (retry["unit"] or retry["in_ms"] or "s").lower()
        factor = _SECONDS.get(unit) or _SECONDS.get(unit[:3]) or 1.0
        found["retry_after_s"] = round(60.0 * int(retry["minutes"] or 0) + factor * float(retry["time"]), 6)
    elif (elsewhere := _RETRY_ELSEWHERE.search(text)) is not None:
        unit = elsewhere["unit"] or elsewhere["unit_cjk"]
        is_minutes = unit.casefold().startswith(_MINUTES)
        found["retry_after_s"] = float(elsewhere["time"] or elsewhere["time_cjk"]) * (60.0 if is_minutes else 1.0)
    limit = _LIMIT.search(text)
    if limit is not None and found.get("status_code") == 429:
        found["rate_limit"] = int(limit["limit"])
    return found

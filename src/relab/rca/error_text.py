"""The text of an error, prepared so that rules match what it says and not what it quotes.

An error message often repeats what the agent asked for: the arguments of the call, the
search query, a URL, lines of code in a traceback. Words in those parts ("rate limit",
"403", "timeout") describe the content that the agent worked on, not the error. They are
blanked here, character for character, so that positions in the prepared text are
positions in the original.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

HEAD_CHARS = 6_000
TAIL_CHARS = 2_000
"""Of a longer text the start and the end are read: an error states itself first or, in a traceback, last."""

_FILLER = "x"

_URL = re.compile(r"https?://[^\s'\"<>)\]}]+")
_ARGUMENTS = re.compile(
    r"\b(?:arguments?|args|kwargs|params|parameters|inputs?)\b\s*[:=]?\s*(\{.{0,4000}?\})(?=[\s:.,;)]|$)", re.DOTALL
)
_QUOTED_CONTENT = re.compile(
    r"\b(?:query|queries|search(?:ed|ing)?|for|prompt|text|input|input_value|keywords?|topic|term|titled?|named?|"
    r"file|path|page|document|about|q)['\"]?\s*[:=]?\s*(?P<quote>['\"])(?P<content>.{1,2000}?)(?P=quote)(?=[\s.,;:)\]}]|$)",
    re.DOTALL,
)
_TRACEBACK_CODE = re.compile(r"^[ \t]{2,}.*$", re.MULTILINE)

_CODE_LABEL = re.compile(
    r"(?:\bHTTP(?:/\d(?:\.\d)?)?(?: error)?|\bstatus(?:[ _]?code)?|\berror code|\bresponse code)"
    r"\s*[:=]?\s*[(\['\"]*(?P<code>[45]\d\d)\b",
    re.IGNORECASE,
)
_CODE_REASON = re.compile(
    r"\b(?P<code>[45]\d\d)[\s:,-]+(?:client error|server error|bad request|unauthorized|forbidden|not found|"
    r"request time-?out|unprocessable|too many requests|internal server error|bad gateway|service unavailable|"
    r"gateway time-?out|proxy authentication)",
    re.IGNORECASE,
)
_CLASS_IN_TEXT = re.compile(
    r"(?:^|(?<=[\s:('\"]))(?:\w+\.)*(?P<name>[A-Z]\w*(?:Error|Exception|Exceeded|Timeout|Expired|Denied|Exhausted))"
    r"(?=\s*[:('\"]|\s*$)",
    re.MULTILINE,
)
_IN_BAND_TEXT = re.compile(
    r"\s*[\W_]{0,3}(?:(?:an? )?(?:error|exception|fatal|failed|failure)\b[^:\n]{0,60}:"
    r"|traceback \(most recent call last\)|exit ?code: [1-9])",
    re.IGNORECASE,
)
_IN_BAND_JSON = re.compile(
    r'\s*\{\s*"(?:(?:error|errors|error_message|exception)"\s*:\s*(?!null|""|\[\s*\]|\{\s*\}|false)'
    r'|(?:status|success|ok)"\s*:\s*(?:"(?:error|failed|failure)"|false))'
)


@dataclass(frozen=True, slots=True)
class TextMatch:
    """Where a rule matched: offsets into the original text."""

    start: int
    end: int


@dataclass(frozen=True, slots=True)
class ErrorText:
    """The part of a text that rules read.

    Attributes:
        masked: the text with echoed content blanked, in the original's case.
        lowered: `masked` in lower case, only for cheap substring tests (its length may differ).
        tail_at: index in `masked` where the end part begins.
        tail_shift: what to add to an index in the end part to get its place in the original.
        classes: names of exception classes that the text states, such as `TypeError: ...`.
        status_code: an HTTP status from 400 to 599 that the text states, else None.
        status_at: where it states it.
    """

    masked: str
    lowered: str
    tail_at: int
    tail_shift: int
    classes: tuple[tuple[str, TextMatch], ...]
    status_code: int | None
    status_at: TextMatch | None

    def place(self, match: re.Match[str]) -> TextMatch:
        """Translate a match in `masked` to offsets in the original text."""
        shift = self.tail_shift if match.start() >= self.tail_at else 0
        return TextMatch(match.start() + shift, match.end() + shift)


def _blank(match: re.Match[str], group: int | str) -> str:
    start, end = match.span(group)
    offset = match.start()
    whole = match.group(0)
    return whole[: start - offset] + _FILLER * (end - start) + whole[end - offset :]


def _mask(text: str) -> str:
    if "://" in text:
        text = _URL.sub(lambda match: _FILLER * len(match.group(0)), text)
    if "{" in text:
        text = _ARGUMENTS.sub(lambda match: _blank(match, 1), text)
    if "'" in text or '"' in text:
        text = _QUOTED_CONTENT.sub(lambda match: _blank(match, "content"), text)
    if "Traceback (most recent call last)" in text:
        text = _TRACEBACK_CODE.sub(lambda match: " " * len(match.group(0)), text)
    return text


def read_error(text: str) -> ErrorText:
    """Prepare `text`; at most `HEAD_CHARS + TAIL_CHARS` characters of it are read."""
    head, tail = text, ""
    if len(text) > HEAD_CHARS + TAIL_CHARS:
        head, tail = text[:HEAD_CHARS], text[-TAIL_CHARS:]
    head, tail = _mask(head), _mask(tail)
    masked = f"{head}\n{tail}" if tail else head
    tail_at = len(head) + 1 if tail else len(masked) + 1
    bare = ErrorText(masked, masked.lower(), tail_at, len(text) - len(masked), (), None, None)
    code = None
    if "4" in masked or "5" in masked:
        code = _CODE_LABEL.search(masked) or _CODE_REASON.search(masked)
    return ErrorText(
        masked=bare.masked,
        lowered=bare.lowered,
        tail_at=bare.tail_at,
        tail_shift=bare.tail_shift,
        classes=tuple((match["name"], bare.place(match)) for match in _CLASS_IN_TEXT.finditer(masked)),
        status_code=int(code["code"]) if code else None,
        status_at=bare.place(code) if code else None,
    )


def last_name(error_class: str) -> str:
    """Return `RateLimitError` for `openai.RateLimitError`: modules don't tell what happened."""
    return error_class.rsplit(".", 1)[-1].strip()


def is_error_in_result(text: str) -> bool:
    """Tell whether a result *is* an error report, as tools that never raise return it.

    Only the beginning counts: `Error: ...`, a traceback, `{"error": ...}`. A text that
    speaks of errors further on is content.
    """
    return bool(_IN_BAND_TEXT.match(text) or _IN_BAND_JSON.match(text))


_WORD = re.compile(r"\w+")
_GENERIC_WORDS = frozenset(
    (
        "a an the this that it we i you your our us my me please try again later sorry oops "
        "has have had was were is are be been being do did does occurred occur happened happen encountered got get "
        "unexpected unknown unspecified generic general internal server system error errors exception failure failures "
        "failed fail fails failing fatal unhandled uncaught something went wrong bad problem issue run task agent step "
        "tool call calls job execution executing request requests operation process processing workflow action "
        "could couldn can cannot not t unable to complete completed finish finished perform handle "
        "with while during in on of at by from for and or as contact support administrator "
        "http status code 500 no none null n details detail available reason message returned 1"
    ).split()
)
_GENERIC_CLASSES = frozenset(
    (
        "error exception baseexception runtimeerror internalservererror internalerror servererror unknownerror "
        "unknown failure systemerror agenterror agentexecutionerror toolerror toolcallerror toolexecutionerror "
        "toolexception steperror runerror taskerror executionerror genericerror none null other _other"
    ).split()
)


def is_generic_message(text: str | None) -> bool:
    """Tell whether a message says no more than that something failed.

    True for empty text and for texts made only of words like "internal server error",
    "something went wrong", "please try again later", whatever their case, order and
    punctuation.
    """
    if not text:
        return True
    if len(text) > 400:
        return False
    return all(word in _GENERIC_WORDS for word in _WORD.findall(text.casefold()))


def is_generic_class(error_class: str | None) -> bool:
    """Tell whether an error class names no kind of error: `Exception`, `ToolError`, empty."""
    return not error_class or last_name(error_class).casefold() in _GENERIC_CLASSES or not error_class.strip()

"""Prepare error texts for rules: hide the parts of a text that do not describe the error.

There are two kinds of such parts:

- Quoted input. An error message often repeats parts of the request: the arguments of the call, the search query, a URL,
  lines of code in a traceback. Words in it ("rate limit", "403", "timeout") describe the content that the agent worked
  on.
- Denials. They state that an error did not occur ("0 timeouts").

This module replaces each character of these parts by a filler, `x` or a blank. Because the length stays the same,
positions in the prepared text can be translated to positions in the original text.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator
from dataclasses import dataclass

from relab.rca.evidence.denials import denied_spans

HEAD_CHARS = 3_000
TAIL_CHARS = 1_000
"""Only the start and the end of a longer text are read: the error is named first or, in a traceback, last."""

_FILLER = "x"

MAX_ECHO_CHARS = 2_000
MAX_CHARS = 100_000
"""The maximum number of characters of different texts that one `ErrorReader` prepares: about 1,000 usual error messages."""

_URL = re.compile(r"https?://[^\s'\"<>)\]}]+")
_ARGUMENTS_OPEN = re.compile(r"\b(?:arguments?|args|kwargs|params|parameters|inputs?)\b\s*[:=]?\s*\{")
_BRACE = re.compile(r"[{}]")
_QUOTED_OPEN = re.compile(
    r"\b(?:query|queries|search(?:ed|ing)?|for|prompt|text|input|input_value|keywords?|topic|term|titled?|named?|"
    r"file|path|page|document|about|q)['\"]?\s*[:=]?\s*(?P<quote>['\"])"
)
_QUOTE_CLOSE = {quote: re.compile(rf"{quote}(?=[\s.,;:)\]}}]|$)") for quote in "'\""}
_TRACEBACK_CODE = re.compile(r"^[ \t]{2,}.*$", re.MULTILINE)

_VARIABLE = re.compile(r"(?<![\w.])[0-9a-fA-F]{8}[0-9a-fA-F-]*(?!\w)|(?<!\d)(?!(?:[45]\d\d|13|0)(?!\d))\d+")
"""Ids and numbers, except those that rules read: status codes, errno 13, "0 results"."""

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


@dataclass(frozen=True, slots=True)
class TextMatch:
    """The place of a match in an error text: the part `start:end` of the original text."""

    start: int
    end: int


@dataclass(frozen=True, slots=True)
class ErrorText:
    """An error text, prepared for the rules that classify errors.

    Attributes:
        masked: the text, in the original case. Of a long text, only the beginning (head) and the end (tail) are kept.
            Filler characters replace quoted input, such as a rejected argument, and denials, such as "0 timeouts".
        lowered: `masked` in lower case, for substring tests only. Its length can differ from that of `masked`.
        tail_at: the index in `masked` at which the tail begins; greater than the length of `masked` if there is no
            tail.
        tail_shift: the number to add to an index in the tail of `masked` to get the index in the original text.
        classes: pairs `(name, place)` of the exception classes in the text, such as `TypeError` in `TypeError: ...`.
        status_code: an HTTP status code from 400 to 599 in the text; None without one.
        status_at: the place of the status code; None without one.
        memo: a cache of the results of `Phrases.find`, by the `id()` of the `Phrases` object.
    """

    masked: str
    lowered: str
    tail_at: int
    tail_shift: int
    classes: tuple[tuple[str, TextMatch], ...]
    status_code: int | None
    status_at: TextMatch | None
    memo: dict[int, object] = dataclasses.field(default_factory=dict, compare=False, repr=False)

    def place(self, match: re.Match[str]) -> TextMatch:
        """Convert the place of a match in `masked` to a place in the original text."""
        shift = self.tail_shift if match.start() >= self.tail_at else 0
        return TextMatch(match.start() + shift, match.end() + shift)


def _argument_spans(text: str) -> Iterator[tuple[int, int]]:
    """Yield `(start, end)` of each text between the braces of `arguments {...}` in an error text.

    Similar words before the brace, such as `args` or `input`, count too. Braces may be nested.
    """
    done = 0
    for opening in _ARGUMENTS_OPEN.finditer(text):
        if opening.end() <= done:
            continue
        depth = 0
        for brace in _BRACE.finditer(text, opening.end() - 1):
            depth += 1 if brace.group() == "{" else -1
            if depth == 0:
                done = brace.end()
                yield opening.end(), brace.start()
                break
        else:
            return  # Unbalanced from here on: the text is cut off, or these are not arguments.


def _quoted_spans(text: str) -> Iterator[tuple[int, int]]:
    """Yield `(start, end)` of each quoted input in an error text, without its quotation marks.

    Input is recognised by a word before it, such as "query" or "file".
    """
    done = 0
    open_until = dict.fromkeys(_QUOTE_CLOSE, 0)
    for opening in _QUOTED_OPEN.finditer(text):
        quote, start = opening["quote"], opening.end()
        if start <= done or start < open_until[quote]:
            continue
        # A quotation has at least one character; a range without a closing quote is not searched twice.
        closing = _QUOTE_CLOSE[quote].search(text, start + 1, start + MAX_ECHO_CHARS)
        if closing is None:
            open_until[quote] = start + MAX_ECHO_CHARS
        else:
            done = closing.end()
            yield start, closing.start()


def _blank(text: str, spans: Iterator[tuple[int, int]]) -> str:
    pieces: list[str] = []
    done = 0
    for start, end in spans:
        pieces += (text[done:start], _FILLER * (end - start))
        done = end
    return "".join((*pieces, text[done:])) if pieces else text


def _mask(text: str) -> str:
    if "://" in text:
        text = _blank(text, (match.span() for match in _URL.finditer(text)))
    if "{" in text and "}" in text:
        text = _blank(text, _argument_spans(text))
    if "'" in text or '"' in text:
        text = _blank(text, _quoted_spans(text))
    if "Traceback (most recent call last)" in text:
        text = _TRACEBACK_CODE.sub(lambda match: " " * len(match.group(0)), text)
    return _blank(text, denied_spans(text))


def read_error(text: str) -> ErrorText:
    """Prepare an error text for the rules that classify errors: find its status code and class names.

    Before the search, filler characters replace the parts that do not say what failed, such as URLs, quoted input and
    code. Of a long text, only the first `HEAD_CHARS` and the last `TAIL_CHARS` characters are read.
    """
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


def without_variables(text: str) -> str:
    """Return the text with each character of ids and numbers replaced by `7`, so that its length stays the same.

    Numbers that rules read are kept: 400 to 599 (status codes), 13 (an errno) and 0.
    """
    return _VARIABLE.sub(lambda match: "7" * len(match.group()), text)


class ErrorReader:
    """Prepares error texts for the rules that classify errors, each different text only once.

    Differences in ids and numbers do not count, except in texts longer than `HEAD_CHARS + TAIL_CHARS`. When the
    prepared texts have `max_chars` characters in total, `read` returns an empty result for every new text.
    """

    def __init__(self, max_chars: int = MAX_CHARS) -> None:
        self._left = max_chars
        self._known: dict[str, ErrorText] = {}

    def read(self, text: str | None) -> ErrorText:
        """Return an error text, prepared for the rules that classify errors.

        The result is empty if `text` is empty or None. It is also empty for a new text after earlier calls have
        prepared `max_chars` characters in total.
        """
        if not text:
            return _NO_TEXT
        if len(text) <= HEAD_CHARS + TAIL_CHARS:
            text = without_variables(text)
        known = self._known.get(text)
        if known is None:
            if self._left <= 0:
                return _NO_TEXT
            self._left -= min(len(text), HEAD_CHARS + TAIL_CHARS)
            known = self._known[text] = read_error(text)
        return known


def last_name(error_class: str) -> str:
    """Return an error class without its module: `RateLimitError` for `openai.RateLimitError`."""
    return error_class.rsplit(".", 1)[-1].strip()


_NO_TEXT = read_error("")

"""Reduce an error message to its cause: mask the parts that differ between failures with the same cause."""

from __future__ import annotations

import re
from typing import Final

from relab.core.masking import mask_secrets

MAX_CAUSE_CHARS: Final = 300
_MARK: Final = "#"

_PREFIX: Final = re.compile(r"(?:##\[error\]|::error[^:]{0,200}::|E {2,}|\s+|>\s)+")
_QUERY: Final = re.compile(r"(\w{2,10}://)(?:[^\s/@]{1,200}@)?([^\s?'\"<>]{1,1000})(?:\?[^\s'\"<>]{0,1000})?")
_ABSOLUTE: Final = re.compile(
    r"(?<![\w.:/\\<])(?P<path>(?:[A-Za-z]:)?~?[/\\](?:[^\s/\\:'\"`(),;\[\]<>]{1,255}[/\\]){0,60})(?P<name>[^\s/\\:'\"`(),;\[\]<>]{0,255})"
)
_TEMPORARY: Final = re.compile(r"[/\\](?:te?mp|Temp|T)[/\\]$")
_HERE: Final = re.compile(r"(?<![\w.])(?:\.{1,2}/)+(?=\w)")
_KEPT: Final = (
    # Codes say what failed, so they are kept, unlike other numbers.
    r"(?P<kept>(?i:\b(?:http(?:/[\d.]{1,4})?|status(?: code)?|errno|(?:error|exit|response) (?:code|status)|code|signal)[ :=]{0,3}-?\d{1,4}\b"
    r"|\b(?:error|returned)[: ]{1,2}[45]\d\d\b))"
)
_UNIT: Final = (
    r"(?:[nmuµ]?s|secs?|seconds?|m|mins?|minutes?|h|hrs?|hours?|days?|[kKMGT]i?[bB]?|[kKMGT]?i?[bB]/s|bytes?|%)"
)
_VARYING: Final = re.compile(
    "|".join(
        (
            _KEPT,
            r"\b[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}\b",
            r"\b\d{4}-\d\d-\d\d(?:[T ]\d\d:\d\d(?::\d\d(?:[.,]\d{1,9})?)?(?: ?Z| ?[+-]\d\d:?\d\d)?)?",
            r"\b0[xX][0-9a-fA-F]{1,64}\b",
            r"\b(?:(?=\d{0,40}[a-f])[0-9a-f]{7,128}|(?=\d{0,40}[A-F])(?=[A-F]{0,40}\d)[0-9A-F]{8,128})\b",
            r"\bgw\d{1,4}\b",
            r"(?i:\b(?:worker|thread|shard|process|pid|runner|agent|executor)[-_ #]?\d{1,9}\b)",
            rf"(?<![A-Za-z_\d.])(?:\d{{1,18}}(?:[.,]\d{{3}}){{0,6}}(?:[.,]\d{{1,9}})? ?{_UNIT} ?){{1,4}}(?!\w)",
            r"\bv?\d{1,9}(?:\.\d{1,9}){1,5}(?!\w)",
            r"(?<![A-Za-z_\d])\d(?:[\d.,:_]{0,60}\d)?(?!\w)",
        )
    )
)
_TOKEN: Final = re.compile(r"[A-Za-z0-9]{8,255}")
_CHANGE: Final = re.compile(r"[A-Za-z](?=\d)|\d(?=[A-Za-z])")
_MIN_CHANGES: Final = 3
"""A word that alternates between letters and digits so often was drawn at random, such as the name of a temporary folder."""
_MARKS: Final = re.compile(r"#(?:[ ,.:]{0,2}#)+")


def cause_of(text: str) -> str:
    """Return a line of text with `#` in place of its variable parts, so that equal causes give equal text.

    - Masked: numbers with their units, versions, times, dates, digests, memory addresses, random identifiers, and
      numbered workers or processes (`worker-3`).
    - Kept: digits inside other names (`E0308`, `test_2`), HTTP status codes, error codes and exit codes.
    - Shortened: an absolute path to the file's name; a path in a temporary folder to `<tmp>` and the suffix.
    - Removed: prefixes that mark an error in a log, and from a URL the user name, the password and the query.

    Secrets are masked as by `mask_secrets`. The result has at most `MAX_CAUSE_CHARS` characters.
    """
    text = mask_secrets(text[: 8 * MAX_CAUSE_CHARS])
    start = _PREFIX.match(text)
    text = text if start is None else text[start.end() :]
    text = _QUERY.sub(r"\1\2", text)
    text = _HERE.sub("", _ABSOLUTE.sub(_name_of_path, text))
    text = _VARYING.sub(lambda found: found.group() if found["kept"] else _MARK, text)
    text = _TOKEN.sub(_random_as_mark, text)
    return " ".join(_MARKS.sub(_MARK, text).split())[:MAX_CAUSE_CHARS]


def _name_of_path(found: re.Match[str]) -> str:
    path, name = found["path"], found["name"]
    if _TEMPORARY.search(path):
        _, dot, suffix = name.rpartition(".")
        return f"<tmp>{dot}{suffix}" if dot and suffix.isalpha() else "<tmp>"
    return name or "/"


def _random_as_mark(found: re.Match[str]) -> str:
    return _MARK if len(_CHANGE.findall(found.group())) >= _MIN_CHANGES else found.group()

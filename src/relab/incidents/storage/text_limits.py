"""Make texts and documents from outside storable in SQLite and PostgreSQL.

A text or document that is too long is cut and marked; only `require_exact` rejects a document. Pure.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Mapping
from typing import Any, Final

from relab.core.errors import InvalidInputError
from relab.core.json import JsonValue, canonical_json

MAX_DEPTH: Final = 40
_MAX_ID: Final = 200
_MAX_BITS: Final = 128
_NO_TEXT: Final = re.compile("[\x00\ud800-\udfff]")
_MARK_BYTES: Final = 48
"""The maximum size in bytes of the mark at a cut, with the quotes and the comma around it."""


def clean_text(text: str) -> str:
    """Replace NUL and lone surrogates, which PostgreSQL cannot store, by U+FFFD; return the text."""
    if not _NO_TEXT.search(text):
        return text
    # A valid surrogate pair becomes its character.
    whole = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return whole.replace("\x00", "\ufffd")


def cut(text: str, most: int) -> str:
    """Return a text that every database can store, of at most `most` characters (`most` must be 40 or more).

    The end of a longer text is replaced by a mark that states the length before the cut.
    """
    if len(text) <= most:
        return clean_text(text)
    mark = f"… [{len(text):,} characters]"
    return clean_text(text[: most - len(mark)]) + mark


def name_of(text: str) -> str:
    """Convert a text to a key of at most 200 characters that every database can store.

    If the text is such a key already, it is returned unchanged. Otherwise characters that PostgreSQL cannot store are
    replaced, the end is cut, and a digest of the whole text is appended. An empty text also becomes a digest.
    """
    if 0 < len(text) <= _MAX_ID and not _NO_TEXT.search(text):
        return text
    mark = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()
    return f"{clean_text(text[: _MAX_ID - len(mark) - 1])}~{mark}"


def is_storable(text: str) -> bool:
    """Return whether a text can be stored as an id: at most 200 characters, without NUL and lone surrogates."""
    return len(text) <= _MAX_ID and not _NO_TEXT.search(text)


def require_exact(value: object, field: str, most_bytes: int) -> None:
    """Check that a JSON document can be stored unchanged.

    Args:
        value: the document, as JSON values.
        field: the name of the document's field, for the error message.
        most_bytes: the maximum size of the document as JSON, in bytes.

    Raises:
        InvalidInputError: the document is too large or contains invalid characters.
    """
    # The document is not cut, because the executed action must be exactly the one that was decided on.
    if bounded(value, most_bytes) != value:
        raise InvalidInputError(
            f"{field} cannot be stored unchanged: it is longer than {most_bytes:,} bytes or contains invalid characters.",
            problems=((field, "cannot be stored verbatim"),),
        )


def bounded(value: object, most_bytes: int) -> JsonValue:
    """Return a copy of a JSON document that has at most `most_bytes` (which must be 4,000 or more).

    At the limit, the ends of texts and the last items of lists and objects are cut. Each cut leaves a mark.
    NaN, infinity and integers of more than 128 bits become texts.

    Raises:
        TypeError: the document contains a value that is not JSON, which is a bug of the caller.
    """
    return _Cutter(most_bytes - MAX_DEPTH * _MARK_BYTES).taken(value, 0)


def bounded_object(value: Mapping[str, Any], most_bytes: int) -> dict[str, Any]:
    """Return a copy of a JSON object, cut to at most `most_bytes` (4,000 or more); each cut leaves a mark."""
    found = bounded(value, most_bytes)
    assert isinstance(found, dict)
    return found


class _Cutter:
    """Copies one JSON document within a size limit, and puts a mark at each place where something was cut."""

    def __init__(self, most_bytes: int) -> None:
        self._left = most_bytes
        self._most_in_text = most_bytes // 2
        """The limit of a single text, so that it leaves room for the rest of the document."""

    def taken(self, value: object, depth: int) -> JsonValue:
        """Return a copy of a JSON value, cut to the bytes that are left of the size limit.

        `depth` is the number of lists and objects around the value. At `MAX_DEPTH`, a list or object is replaced by a
        mark.
        """
        if isinstance(value, str):
            return self._text(value)
        if value is None or isinstance(value, bool):
            self._left -= 5
            return value
        if isinstance(value, int | float):
            return self._number(value)
        if not isinstance(value, Mapping | list | tuple):
            raise TypeError(f"a {type(value).__name__} is no JSON")
        if depth >= MAX_DEPTH:
            return self._text("… [cut: too deep]")
        self._left -= 2
        return self._object(value, depth) if isinstance(value, Mapping) else self._list(value, depth)

    def _object(self, value: Mapping[Any, Any], depth: int) -> JsonValue:
        found: dict[str, JsonValue] = {}
        for number, (key, item) in enumerate(value.items()):
            if self._left <= 0:
                found["…"] = f"[cut: {len(value) - number:,} more]"
                break
            self._left -= 2
            name = self._text(str(key))
            found[name] = self.taken(item, depth + 1)
        return found

    def _list(self, value: list[Any] | tuple[Any, ...], depth: int) -> JsonValue:
        found: list[JsonValue] = []
        for number, item in enumerate(value):
            if self._left <= 0:
                found.append(f"… [cut: {len(value) - number:,} more]")
                break
            self._left -= 1
            found.append(self.taken(item, depth + 1))
        return found

    def _number(self, value: int | float) -> JsonValue:  # noqa: PYI041 mypy takes a float for no int
        if isinstance(value, int) and value.bit_length() > _MAX_BITS:
            # Python refuses to print very long integers, and most JSON parsers reject them.
            return self._text(f"[a number of {value.bit_length():,} bits]")
        if isinstance(value, float) and not math.isfinite(value):
            return self._text("NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity")
        self._left -= len(repr(value))
        return value

    def _text(self, text: str) -> str:
        room = max(min(self._left, self._most_in_text), 0)
        kept = clean_text(text[:room])
        is_whole = len(text) <= room
        while (size := _size(kept)) > room + 2:
            # A character takes one to six bytes.
            kept, is_whole = kept[: min(len(kept) * room // size, len(kept) - 1)], False
        self._left -= _size(kept)
        return kept if is_whole else f"{kept}… [{len(text):,} characters]"


def _size(text: str) -> int:
    return len(canonical_json(text).encode())

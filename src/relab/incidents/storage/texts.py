"""Words and documents from outside as both databases hold them: of bounded size, cut with a mark, never refused. Pure."""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Mapping
from typing import Any, Final

from relab.core.errors import InvalidInputError
from relab.core.json import JsonValue, canonical_json

MOST_DEPTH: Final = 40
_MOST_BITS: Final = 128
_NO_TEXT: Final = re.compile("[\x00\ud800-\udfff]")
_MARK_BYTES: Final = 48
"""What the mark of a cut takes at most, with the quotes and the comma around it."""


def clean_text(text: str) -> str:
    """Return a text without what PostgreSQL cannot store: NUL, and halves of characters."""
    if not _NO_TEXT.search(text):
        return text
    # Two halves that belong together become the character that they are.
    whole = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return whole.replace("\x00", "\ufffd")


def cut(text: str, most: int) -> str:
    """Return a clean text of at most `most` characters (no less than 40); one that was longer ends with a mark."""
    if len(text) <= most:
        return clean_text(text)
    mark = f"… [{len(text):,} characters]"
    return clean_text(text[: most - len(mark)]) + mark


def name_of(text: str, most: int = 200) -> str:
    """Return a name to find something by: as it is if it can be stored, otherwise cut and told apart by a digest."""
    if 0 < len(text) <= most and not _NO_TEXT.search(text):
        return text
    mark = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()
    return f"{clean_text(text[: most - len(mark) - 1])}~{mark}"


def is_storable(text: str, most: int = 200) -> bool:
    """Return whether a text comes back word for word from a column of `most` characters."""
    return len(text) <= most and not _NO_TEXT.search(text)


def require_exact(value: object, field: str, most_bytes: int) -> None:
    """Return if a document comes back word for word.

    Raises:
        InvalidInputError: it would be cut or changed, and what is done by it must be what was decided.
    """
    if bounded(value, most_bytes) != value:
        raise InvalidInputError(
            f"{field} cannot be stored word for word: it is longer than {most_bytes:,} bytes or holds odd characters.",
            problems=((field, "cannot be stored word for word"),),
        )


def bounded(value: object, most_bytes: int) -> JsonValue:
    """Return a JSON document of at most `most_bytes` (no less than 4,000); what is left out of it is marked.

    What comes first is kept. Numbers that JSON has no word for become texts.

    Raises:
        TypeError: it holds something that is no JSON, which is a mistake of the caller's.
    """
    return _Cutter(most_bytes - MOST_DEPTH * _MARK_BYTES).taken(value, 0)


def bounded_object(value: Mapping[str, Any], most_bytes: int) -> dict[str, Any]:
    """Return a JSON object of at most `most_bytes`; see `bounded`."""
    found = bounded(value, most_bytes)
    assert isinstance(found, dict)
    return found


class _Cutter:
    """Takes a document over, part by part, until its size is used up."""

    def __init__(self, most_bytes: int) -> None:
        self._left = most_bytes
        self._most_in_text = most_bytes // 2
        """A single text must not leave the rest of the document without a place."""

    def taken(self, value: object, depth: int) -> JsonValue:
        """Return as much of a value as there is room for."""
        if isinstance(value, str):
            return self._text(value)
        if value is None or isinstance(value, bool):
            self._left -= 5
            return value
        if isinstance(value, int | float):
            return self._number(value)
        if not isinstance(value, Mapping | list | tuple):
            raise TypeError(f"a {type(value).__name__} is no JSON")
        if depth >= MOST_DEPTH:
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
        if isinstance(value, int) and value.bit_length() > _MOST_BITS:
            # Python refuses to write such numbers out, and most readers to read them.
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

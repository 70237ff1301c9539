"""The lines of a journal: each ends with a checksum over itself and the checksum of the line before (a hash chain)."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import jiter
import pydantic_core

from relab.experiments.errors import damaged

FORMAT: Final = "journal_v2"
_HEX: Final = 64
START: Final = "0" * _HEX
"""The checksum before the first line."""
_CHECK: Final = b',"check":"'
_END: Final = b'"}\n'
_TAIL: Final = len(_CHECK) + _HEX + len(_END)


@dataclass(frozen=True, slots=True)
class Head:
    """The end of a journal.

    Attributes:
        entries: the number of all lines but the first one. Each of them has the result of a trial or withdraws a result,
            so a trial that was run again has several lines.
        check: the checksum of the last line, in hexadecimal.
    """

    entries: int
    check: str

    def to_json(self) -> dict[str, Any]:
        """Return `{format, entries, head}`: the format, the number of lines and the last checksum of the journal."""
        return {"format": FORMAT, "entries": self.entries, "head": f"sha256:{self.check}"}


def header_line(manifest: str | None) -> tuple[bytes, Head]:
    """Return the first line of a journal, and the journal's head (number of lines, last checksum) after this line.

    The line contains `manifest`, the digest of the run's manifest; None if the run has no manifest.
    """
    return checked_line({"journal": FORMAT, "manifest": manifest}, Head(-1, START))


def checked_line(entry: Mapping[str, Any], before: Head) -> tuple[bytes, Head]:
    """Return the line for an entry, with its checksum, and the journal's new head.

    The head is the number of lines after the first one, and the last line's checksum; `before` is the old head.
    """
    entries = before.entries + 1
    payload = _json({"line": entries + 1, **entry})[:-1]
    check = hashlib.sha256(before.check.encode() + payload).hexdigest()
    return payload + _CHECK + check.encode() + _END, Head(entries, check)


def _json(entry: Mapping[str, Any]) -> bytes:
    try:
        return pydantic_core.to_json(entry, inf_nan_mode="constants")
    except pydantic_core.PydanticSerializationError:
        # A message can contain a file name that is not valid UTF-8.
        return json.dumps(entry, separators=(",", ":"), ensure_ascii=False).encode("utf-8", "replace")


def has_check(line: bytes) -> bool:
    """Return whether a line of a journal ends with a checksum, right or wrong."""
    return line.endswith(_END) and line[-_TAIL:].startswith(_CHECK)


def read_checked(path: Path, number: int, line: bytes, before: Head) -> tuple[dict[str, Any], Head]:
    """Return the document of a line without its number and its checksum, and the journal's head after the line.

    Args:
        path: the journal, for the message of an error.
        number: the number of the line, from 1.
        line: the line with its line end.
        before: the head of the journal before the line.

    Raises:
        RunDamagedError: the line was changed, or is not the next one after `before`.
    """
    payload, tail = line[:-_TAIL], line[-_TAIL:]
    if len(line) <= _TAIL or not has_check(line):
        raise damaged(path, "has no checksum at its end: the line was changed or cut", line=number)
    check = hashlib.sha256(before.check.encode() + payload).hexdigest()
    document = parsed_line(path, number, line)
    if check.encode() != tail[len(_CHECK) : -len(_END)]:
        position = document.get("line")
        if isinstance(position, int) and position != number:
            raise damaged(
                path, f"is line {position} of the journal: lines were removed, inserted or moved", line=number
            )
        raise damaged(path, "was changed after it was written: its checksum does not match", line=number)
    del document["line"], document["check"]
    return document, Head(number - 1, check)


def read_unchecked(path: Path, number: int, line: bytes) -> dict[str, Any]:
    """Return the document of a line of a journal without checksums, which an earlier version wrote.

    `path` is the journal and `number` the number of the line, from 1, for the message of an error.

    Raises:
        RunDamagedError: the line has a checksum, or is not a JSON object.
    """
    document = parsed_line(path, number, line)
    if "check" in document:
        raise damaged(path, "has a checksum, but the first line has none: lines were removed or changed", line=number)
    return document


def parsed_line(path: Path, number: int, line: bytes) -> dict[str, Any]:
    """Parse a line of a journal, without checking its number and its checksum; both stay in the result.

    `path` is the journal and `number` the number of the line, from 1, for the message of an error.

    Raises:
        RunDamagedError: the line is not a JSON object.
    """
    try:
        document = jiter.from_json(line)
    except ValueError as error:
        raise damaged(path, f"is not a line of a journal: {error}", line=number) from error
    if not isinstance(document, dict):
        raise damaged(path, "is not a line of a journal: it must be a JSON object", line=number)
    return document

"""The history of rollouts: one JSON line for each rollout, appended only, and chained so that an edit is detected.

Each line has the hash of the line before it (`previous`) and its own (`hash`), which covers both its content and
`previous`. Lines of other programs before the first chained one are kept; the first chained line has the digest of the
last of them. The hashes have no key: they detect damage and edits, but not a person who computes them again, and not
lines that are missing at the end.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

START: Final = "0" * 64
"""`previous` of the first line of a file."""


@dataclass(frozen=True, slots=True)
class HistoryProblem:
    """The first line of a history that was changed: its number, from 1, and what is wrong with it (`message`)."""

    line: int
    message: str


def append_history(path: Path, entry: Mapping[str, Any]) -> str:
    """Append a line to a history and return its hash; the line is on the disk when this returns.

    Several processes may append at once. A line that an earlier crash left incomplete is moved to a file beside it,
    whose name ends with `.torn`.

    Args:
        path: the history; it is created if it is missing, with its folder.
        entry: the content of the line, without `previous` and `hash`.

    Raises:
        OSError: the file cannot be written; it then has its earlier content, apart from an incomplete line.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    is_new = not path.exists()
    with path.open("a+b") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        _repair(file.fileno(), path)
        file.seek(0)
        last = START
        for line in file:
            last = _hash_of_line(line)
        content = {**entry, "previous": last}
        own = _digest(content)
        file.write(_encoded({**content, "hash": own}) + b"\n")
        file.flush()
        os.fsync(file.fileno())
    if is_new:
        _sync_folder(path.parent)
    return own


def read_history(path: Path) -> list[dict[str, Any]]:
    """Return the lines of a history that are complete JSON objects, oldest first; empty if there is no file."""
    if not path.exists():
        return []
    found = (_parsed(line) for line in path.read_bytes().splitlines())
    return [entry for entry in found if entry is not None]


def verify_history(path: Path) -> HistoryProblem | None:
    """Return the first changed line of a history; None if each line is as it was written.

    Raises:
        OSError: the file cannot be read.
    """
    last, is_chained = START, False
    for number, line in enumerate(_complete_lines(path), 1):
        entry = _parsed(line)
        own = None if entry is None else entry.pop("hash", None)
        if entry is None or own is None:
            if is_chained:
                return HistoryProblem(number, "is no line of a rollout, or has lost its hash")
        else:
            if _digest(entry) != own:
                return HistoryProblem(number, "was changed after it was written")
            if entry.get("previous") != last:
                return HistoryProblem(
                    number, "does not follow the line before it: a line was removed, added or changed"
                )
            is_chained = True
        last = _hash_of_line(line)
    return None


def _complete_lines(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        for line in file:
            # A crash can leave an incomplete last line; the next append repairs it.
            if line.endswith(b"\n"):
                yield line


def _repair(descriptor: int, path: Path) -> None:
    """Complete a last line that has only lost its line end; move any other incomplete one to a file beside the history."""
    size = os.fstat(descriptor).st_size
    with path.open("rb") as file:
        content = file.read()
    tail = content[content.rfind(b"\n") + 1 :]
    if not tail:
        return
    entry = _parsed(tail)
    if entry is not None and ("hash" not in entry or entry.pop("hash") == _digest(entry)):
        os.write(descriptor, b"\n")
        return
    with path.with_name(path.name + ".torn").open("ab") as torn:
        torn.write(tail + b"\n")
        torn.flush()
        os.fsync(torn.fileno())
    os.ftruncate(descriptor, size - len(tail))


def _hash_of_line(line: bytes) -> str:
    entry = _parsed(line)
    own = None if entry is None else entry.get("hash")
    return own if isinstance(own, str) else hashlib.sha256(line.rstrip(b"\r\n")).hexdigest()


def _digest(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(_encoded(content)).hexdigest()


def _encoded(content: Mapping[str, Any]) -> bytes:
    return json.dumps(content, ensure_ascii=False, allow_nan=False, separators=(",", ":"), sort_keys=True).encode()


def _parsed(line: bytes) -> dict[str, Any] | None:
    try:
        found = json.loads(line)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

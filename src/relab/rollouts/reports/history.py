"""Append to, read and verify the history of rollouts: a file with one JSON line for each rollout, as a hash chain.

`hash` of a line is the hash of its content and of `previous`; `previous` is the `hash` of the line before it. A line is
canonical JSON, so each changed byte is detected. Missing lines at the end are not detected. The hashes have no secret
key, so a person who edits a line and recomputes all later hashes is not detected either.

The file may begin with lines of other programs. They have no hashes and are kept. `previous` of the first line after
them is the SHA-256 digest of the last of them.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import IO, Any, Final

from relab.core.errors import MalformedBodyError
from relab.core.file_locks import file_lock, open_file_lock
from relab.core.json import canonical_json, parse_json
from relab.rollouts.errors import ReportFolderError

START: Final = "0" * 64
"""`previous` of the first line of a file."""
_BLOCK: Final = 1 << 16


@dataclass(frozen=True, slots=True)
class HistoryProblem:
    """A changed or incomplete line of a history of rollouts.

    `line` is the number of the line, from 1. `message` says what is wrong with the line, such as "is incomplete".
    """

    line: int
    message: str


def append_history(path: Path, entry: Mapping[str, Any]) -> None:
    """Append a line to a history of rollouts (a hash chain). The line is on the disk when the function returns.

    Several processes may append at once.

    Args:
        path: the path of the history; the file and its folder are created if missing.
        entry: the content of the line, without `previous` and `hash`: JSON values with finite numbers.

    Raises:
        OSError: the file cannot be written; its complete lines are unchanged.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    is_new = not path.exists()
    # The lock is released after the file is closed: closing flushes the rest of a line that could not be written.
    with file_lock(path, mode=0o666), path.open("a+b") as file:
        last = _repaired_end(file, path)
        content = {**_storable(dict(entry)), "previous": START if last is None else _hash_of_line(last)}
        file.write(_line_of(content, _digest(content)) + b"\n")
        file.flush()
        os.fsync(file.fileno())
    if is_new:
        _sync_folder(path.parent)


def read_history(path: Path) -> list[dict[str, Any]]:
    """Return the lines of a history of rollouts (a JSON object for each rollout), oldest first; empty without a file.

    Lines that are not JSON objects are left out.

    Raises:
        ReportFolderError: the file cannot be read.
    """
    with _reading(path) as lines:
        return [entry for line in lines if (entry := _parsed(line)) is not None]


def verify_history(path: Path) -> HistoryProblem | None:
    """Return the first line of a history of rollouts (a hash chain) that was changed or is incomplete.

    Return None if all lines are intact, or without a file.

    Raises:
        ReportFolderError: the file cannot be read.
    """
    last, is_chained = START, False
    with _reading(path) as lines:
        for number, line in enumerate(lines, 1):
            entry = _parsed(line)
            if entry is not None and {"hash", "previous"} <= entry.keys():
                own = entry.pop("hash")
                if not isinstance(own, str) or _digest(entry) != own or _line_of(entry, own) != line.rstrip(b"\n"):
                    return HistoryProblem(number, "was changed after it was written")
                if entry["previous"] != last:
                    return HistoryProblem(
                        number, "does not follow the line before it: a line was removed, added or changed"
                    )
                is_chained = True
            elif entry is None and not line.endswith(b"\n"):
                return HistoryProblem(number, "is incomplete: a crash has cut it, or it was edited")
            elif is_chained:
                return HistoryProblem(number, "is no line of a rollout, or has lost its hash")
            last = _hash_of_line(line)
    return None


@contextmanager
def _reading(path: Path) -> Iterator[Iterator[bytes]]:
    """Return a context manager that yields the lines of a file with the history of rollouts, one line for each rollout.

    Nothing can be appended to the file meanwhile. The lines have their line ends. Without a file, there are no lines.

    Raises:
        ReportFolderError: the file cannot be read.
    """
    try:
        with path.open("rb") as file, open_file_lock(file.fileno(), shared=True):
            yield iter(file)
    except FileNotFoundError:
        yield iter(())
    except OSError as error:
        raise ReportFolderError(f"The history {path} cannot be read: {error.strerror}.") from error


def _repaired_end(file: IO[bytes], path: Path) -> bytes | None:
    """Repair the last line of a history if it has no line end; return the last line of the repaired file.

    If the line is a complete JSON object, a line end is added. Otherwise, the line is moved to a file with the suffix
    `.torn`. Return None if no line is left.
    """
    lines = _last_lines(file)
    if lines and not lines[-1].endswith(b"\n"):
        torn = lines[-1]
        if _parsed(torn) is not None:
            # Even an edited line is kept, so that the edit stays visible.
            file.write(b"\n")
        else:
            with path.with_name(path.name + ".torn").open("ab") as aside:
                aside.write(torn + b"\n")
                aside.flush()
                os.fsync(aside.fileno())
            file.truncate(file.seek(0, os.SEEK_END) - len(torn))
            lines.pop()
    return lines[-1] if lines else None


def _last_lines(file: IO[bytes]) -> list[bytes]:
    """Return the last two lines of a file, with their line ends, without reading the whole file."""
    start = file.seek(0, os.SEEK_END)
    content = b""
    # The third line end from the end is where the last two lines begin, if the last one has an end.
    while start > 0 and content.count(b"\n") < 3:
        size = min(max(_BLOCK, len(content)), start)
        start = file.seek(start - size)
        content = file.read(size) + content
    return list(BytesIO(content))[-2:]


def _hash_of_line(line: bytes) -> str:
    entry = _parsed(line)
    own = None if entry is None or "previous" not in entry else entry.get("hash")
    return own if isinstance(own, str) else hashlib.sha256(line.rstrip(b"\r\n")).hexdigest()


def _digest(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(canonical_json(content).encode()).hexdigest()


def _line_of(content: Mapping[str, Any], own: str) -> bytes:
    return canonical_json({**content, "hash": own}).encode()


def _storable(value: Any) -> Any:
    """Return a copy of a JSON value with escapes for the characters that `parse_json` rejects."""
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode().replace("\x00", "\\x00")
    if isinstance(value, dict):
        return {_storable(name): _storable(item) for name, item in value.items()}
    return [_storable(item) for item in value] if isinstance(value, list) else value


def _parsed(line: bytes) -> dict[str, Any] | None:
    try:
        found = parse_json(line)
    except MalformedBodyError:
        return None
    return found if isinstance(found, dict) else None


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

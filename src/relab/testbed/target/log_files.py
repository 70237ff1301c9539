"""Write and read structured log lines: each worker appends to its own files, a reader merges the files into pages.

There is no shared lock, so a worker that is stopped in the middle of a line does not block other writers or readers. A
file is named `<stem>.w<worker>.<start>.<part>.jsonl`: `start` is the start time of the worker's process in microseconds
since the epoch, `part` counts the files of this process from 0. The oldest files of a worker are deleted, so that at
most `FILES_PER_WORKER` files of each worker are kept.
"""

from __future__ import annotations

import heapq
import json
import os
import re
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from relab.core.clock import format_time, parse_time
from relab.core.errors import InvalidInputError

FILE_BYTES: Final = 4_000_000
FILES_PER_WORKER: Final = 5
PAGE_BYTES: Final = 1_000_000
"""Maximum number of bytes of one worker's lines that a page reads."""
TAIL_BYTES: Final = 100_000
"""Lines are shorter than this, so the last line end is within this many bytes of the file's end."""
LATEST: Final = "latest"

_NAME = re.compile(r"\.w(\d+)\.(\d+)\.(\d+)\.jsonl$")
_CURSOR = re.compile(r"(\d{1,4})\.(\d{1,20})\.(\d{1,9})\.(\d{1,12})")

Place = tuple[int, int, int]
"""Position up to which a worker's lines were read: start of its process in microseconds, part, and byte in the part."""


class LogFiles:
    """Writes the log files of one worker. Thread-safe.

    Args:
        log_path: a path from which the paths of the files are made. For `logs/target.jsonl`, the files of worker 1
            are `logs/target.w1.….jsonl`.
        worker: the worker's number.
        started_us: start of the worker's process, in microseconds since 1970.
        file_bytes: size after which a new file is started.

    Attributes:
        lost: number of lines that could not be written.
    """

    def __init__(self, log_path: Path, *, worker: int, started_us: int, file_bytes: int = FILE_BYTES) -> None:
        self._log_path = log_path
        self._worker = worker
        self._started_us = started_us
        self._file_bytes = file_bytes
        self._lock = threading.Lock()
        self._part = 0
        self._size = 0
        self.lost = 0
        log_path.parent.mkdir(parents=True, exist_ok=True)
        self._descriptor = self._open(0)
        self._remove_old()

    def write(self, line: dict[str, Any]) -> None:
        """Append one line, as JSON, to the worker's current log file; count it in `lost` if it cannot be written."""
        raw = json.dumps(line, separators=(",", ":"), ensure_ascii=False, default=str).encode(errors="replace")
        raw += b"\n"
        with self._lock:
            if self._size + len(raw) > self._file_bytes and self._size:
                self._next_file()
            try:
                # If only a part is written, remove it, so that the next line is not appended to it.
                done = os.write(self._descriptor, raw)
                self._size += done
                if done < len(raw):
                    self._size -= done
                    os.ftruncate(self._descriptor, self._size)
                    self.lost += 1
            except OSError:
                self.lost += 1

    def close(self) -> None:
        """Close the worker's current log file."""
        os.close(self._descriptor)

    def _open(self, part: int) -> int:
        name = f"{self._log_path.stem}.w{self._worker}.{self._started_us}.{part}.jsonl"
        return os.open(self._log_path.with_name(name), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)

    def _next_file(self) -> None:
        # If no descriptor is free, continue with the old file.
        with suppress(OSError):
            following = self._open(self._part + 1)
            os.close(self._descriptor)
            self._descriptor, self._part, self._size = following, self._part + 1, 0
            self._remove_old()

    def _remove_old(self) -> None:
        for _, path in _files(self._log_path).get(self._worker, [])[:-FILES_PER_WORKER]:
            path.unlink(missing_ok=True)


@dataclass(frozen=True, slots=True)
class LogPage:
    """A page of log lines, oldest first.

    Attributes:
        lines: the log lines, parsed.
        cursor: the argument `since` of `read_page` for the next page.
        more: whether there already are lines for the next page.
        gap: whether lines may be missing before this page: the reader's cursor points to a log file that has been
            deleted.
    """

    lines: list[dict[str, Any]]
    cursor: str
    more: bool
    gap: bool


def read_page(log_path: Path, since: str | None, *, limit: int) -> LogPage:
    """Return a page of the log lines of all workers, oldest first.

    Args:
        log_path: the same path as the `log_path` of the workers' `LogFiles`.
        since: the beginning of the page: the cursor of an earlier page, or an RFC 3339 time. None for the oldest line.
            With `latest`, the page has no lines, and its cursor is behind the newest line.
        limit: maximum number of lines.

    Raises:
        InvalidInputError: `since` is neither a cursor nor a time nor `latest`.
    """
    files = _files(log_path)
    if since == LATEST:
        return LogPage([], _write_cursor({worker: _end(of[-1]) for worker, of in files.items()}), more=False, gap=False)
    places, earliest = _read_since(since)
    gap = any(
        worker in files and place[:2] < files[worker][0][0] for worker, place in places.items() if place[1:] != (0, 0)
    )
    streams = [_lines(worker, of, places.get(worker), earliest) for worker, of in sorted(files.items())]
    lines: list[dict[str, Any]] = []
    for _, worker, place, line in heapq.merge(*streams):
        if len(lines) == limit:
            break
        places[worker] = place
        if not line:
            continue
        lines.append(json.loads(line))
    more = any(_has_more(of, places.get(worker, (0, 0, 0))) for worker, of in files.items())
    return LogPage(lines, _write_cursor(places), more=more, gap=gap)


def _files(log_path: Path) -> dict[int, list[tuple[tuple[int, int], Path]]]:
    """Return `{worker's number: [((start, part), path)]}`, the log files of each worker, oldest first.

    `start` is the time in microseconds since 1970 at which the worker's process was started. `part` is the number of
    the file, from 0: a process begins a new file when the current one is full.
    """
    found: dict[int, list[tuple[tuple[int, int], Path]]] = {}
    for path in log_path.parent.glob(f"{log_path.stem}.w*.jsonl"):
        if match := _NAME.search(path.name):
            worker, started_us, part = map(int, match.groups())
            found.setdefault(worker, []).append(((started_us, part), path))
    return {worker: sorted(files) for worker, files in found.items()}


def _lines(
    worker: int, files: list[tuple[tuple[int, int], Path]], place: Place | None, earliest: str | None
) -> Iterator[tuple[str, int, Place, str]]:
    """Yield one worker's log lines, oldest first, as `(time, worker's number, position after the line, line)`.

    For an invalid line, or a line before `earliest`, the text `line` is empty: the reader must skip the line, but go on
    from the position after it. The generator ends after `PAGE_BYTES` bytes of lines, without those before `earliest`.

    Args:
        worker: the worker's number.
        files: the worker's log files, oldest first: `((start time of the process, number of the file), path)`.
        place: the position after which to begin; None to begin with the oldest line.
        earliest: the time of the first line to yield as text; None for all lines.
    """
    room, time = PAGE_BYTES, ""
    for key, path in files if earliest is None else _files_from(files, earliest):
        if place is not None and key < place[:2]:
            continue
        at = place[2] if place is not None and key == place[:2] else 0
        try:
            with path.open("rb") as opened:
                opened.seek(at)
                # The lines before `earliest` may fill a whole file, so read it to its end.
                raw = opened.read(room if earliest is None else -1)
        except FileNotFoundError:
            # Deleted by rotation since the folder was listed.
            continue
        used = 0
        # An incomplete last line is still being written, or was cut off by a kill.
        for line in raw[: raw.rfind(b"\n") + 1].splitlines(keepends=True):
            at += len(line)
            try:
                text = line.decode()
                time = json.loads(text)["time"]
            except (ValueError, KeyError, TypeError):
                # Not a log line of this format; skip it, but advance the position.
                text = ""
            if earliest is not None and time < earliest:
                text = ""
            else:
                used += len(line)
            yield time, worker, (*key, at), text
            if used >= room:
                return
        room -= len(raw) if earliest is None else used
        if room <= 0:
            return


def _files_from(files: list[tuple[tuple[int, int], Path]], earliest: str) -> list[tuple[tuple[int, int], Path]]:
    """Return the log files of one worker that may contain lines from the time `earliest` on, oldest first.

    These are the newest file that begins before `earliest`, and all newer files; or all files if none begins earlier.
    `files` are all log files of the worker, from `_files`.
    """
    for index in range(len(files) - 1, 0, -1):
        with suppress(FileNotFoundError, ValueError, KeyError, TypeError), files[index][1].open("rb") as opened:
            # A worker's lines are in the order of their times.
            if json.loads(opened.readline(TAIL_BYTES))["time"] < earliest:
                return files[index:]
    return files


def _has_more(files: list[tuple[tuple[int, int], Path]], place: Place) -> bool:
    # A file without a complete line has nothing to read, even if it is the newest.
    return any((*key, 0) < end and place < end for key, end in ((file[0], _end(file)) for file in files))


def _end(file: tuple[tuple[int, int], Path]) -> Place:
    key, path = file
    with suppress(FileNotFoundError), path.open("rb") as opened:
        start = max(opened.seek(0, os.SEEK_END) - TAIL_BYTES, 0)
        opened.seek(start)
        return (*key, start + opened.read().rfind(b"\n") + 1)
    return (*key, 0)


def _read_since(since: str | None) -> tuple[dict[int, Place], str | None]:
    if not since:
        return {}, None
    places: dict[int, Place] = {}
    parts = since.split("_")
    for part in parts:
        if match := _CURSOR.fullmatch(part):
            worker, *place = map(int, match.groups())
            places[worker] = (place[0], place[1], place[2])
    if len(places) == len(parts):
        return places, None
    if since == "start":
        return {}, None
    try:
        # Log times always have microseconds, so they can be compared as text.
        return {}, log_time(parse_time(since))
    except ValueError as error:
        problem = ("since", "is a cursor of an earlier answer, `latest`, or an RFC 3339 time")
        raise InvalidInputError(f"since={since[:60]!r} cannot be read.", problems=(problem,)) from error


def _write_cursor(places: dict[int, Place]) -> str:
    return "_".join(f"{worker}.{at[0]}.{at[1]}.{at[2]}" for worker, at in sorted(places.items())) or "start"


def log_time(us: int) -> str:
    """Return a time in microseconds since 1970 as RFC 3339 text with six decimals."""
    text = format_time(us)
    # Always six decimals, so that such texts sort by time.
    return text if "." in text else f"{text[:-1]}.000000Z"

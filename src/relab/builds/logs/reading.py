"""Read a log from a file or stream in bounded memory.

Each line keeps its number in the file, and loses the timestamp and the prefixes that a CI system put before it.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from relab.builds.logs.encoding import as_utf8
from relab.builds.logs.go_events import event_output
from relab.builds.logs.models import BuildLine, BuildLog, ByteSource
from relab.core.clock import parse_time

MAX_HEAD_BYTES: Final = 4 << 20
MAX_TAIL_BYTES: Final = 12 << 20
"""Of a larger log, only the beginning (the start of the build) and the end (the report of the failure) are read."""
MAX_LINE_CHARS: Final = 2_000
"""The text of a line that is kept; more is data, such as a minified program, and costs time with each pattern."""
_CHUNK_BYTES: Final = 1 << 20
_MAX_NUL_SHARE: Final = 0.001
"""A text has few NUL bytes, such as in the output of a test; a program or an archive has many."""

_LINE_END_BYTES: Final = re.compile(rb"\r\n|\n|\r")
_ESCAPES: Final = re.compile(
    r"\x1b(?:\[[0-?]{0,40}[ -/]{0,4}[@-~]|[\]PX^_][^\x07\x1b]{0,400}(?:\x07|\x1b\\)|[ -/]{0,4}[0-~])"
)
"""Escape sequences of ECMA-48: control sequences, commands to the operating system, strings, two-character ones."""
_CONTROL: Final = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ufeff]")
_TIMESTAMP: Final = re.compile(
    r"\[?\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:[.,]\d{1,9})?(?:Z|[+-]\d\d:?\d\d)\]?(?: \d\d[OE]\+?)?(?: |$)"
)
"""The time that GitHub, GitLab (with the stream's number), Azure and Jenkins put before a line."""
_CLOCK: Final = re.compile(
    r"\[\d\d:\d\d:\d\d\.\d{3}\] |\d{1,2}:\d\d:\d\d [AP]M: "
    r"|(?:\d\d:\d\d:\d\d\.\d{3} )?\[(?:DEBUG|INFO|LIFECYCLE|WARN|ERROR|QUIET)\] \[(?:org\.gradle|system)\.[\w.$]{1,200}\] ?"
)
"""The clock that Vercel and Netlify put before a line, and the clock, level and class that `gradle --debug` puts before it."""
_CLOCK_STARTS: Final = frozenset("[0123456789")
_GITHUB_COLUMNS: Final = re.compile(r"([^\t]{1,200})\t([^\t]{1,200})\t\ufeff?(?=\d{4}-\d\d-\d\dT)")
"""The job and the step before a line that `gh run view --log` prints."""
_GITLAB_SECTION: Final = re.compile(r"section_(?:start|end):\d{1,20}:[\w.-]{1,200}(?:\[[^\]]{0,200}\])?")
_SECTION_TIME: Final = re.compile(r"section_(?:start|end):(\d{10}):")
_TRAVIS_FOLD: Final = re.compile(r"travis_(?:fold|time):(?:start|end):[\w.:=,-]{1,300}")
_WORKER: Final = re.compile(
    r"(?=[\w@#])(?:#(\d{1,6}) \d{1,7}\.\d{1,6} |([\w.-]{1,60}-\d{1,4}) {1,40}\| "
    r"|((?:[\w@./-]{1,80}:|[\w@.-]{1,60}/[\w@./-]{1,80} )(?:build|test|lint|check|typecheck)[\w:-]{0,40}): )"
)
"""Prefixes that name a worker: of BuildKit's steps, of Compose's containers, of a monorepo's tasks."""


def read_log(source: ByteSource) -> BuildLog:
    """Read a log in bounded memory.

    Of a log longer than 16 MiB, only the first 4 MiB and the last 12 MiB are read; the lines between are counted.
    UTF-16 is read if it has a byte order mark. Other bytes that are not UTF-8 become U+FFFD.

    Args:
        source: a binary file, read from its current position to its end; it need not be seekable.
    """
    head, tail, counted = _read_ends(as_utf8(source))
    start = head[:_CHUNK_BYTES]
    is_binary = start.count(b"\0") > len(start) * _MAX_NUL_SHARE
    lines: list[BuildLine] = []
    shortened = 0
    number = 0
    for number, raw in enumerate(_split(head), start=1):
        shortened += len(raw) > MAX_LINE_CHARS
        lines.append(_line(number, raw))
    if counted is None:
        return BuildLog(tuple(lines), number, None, shortened, is_binary)
    first_left_out = number + 1
    # If `head` ends within a line, the first line end that was counted is the end of that line.
    last_left_out = number + counted - (not head.endswith((b"\n", b"\r")))
    left_out = (first_left_out, last_left_out) if last_left_out >= first_left_out else None
    number = last_left_out
    for number, raw in enumerate(_split(tail), start=last_left_out + 1):
        shortened += len(raw) > MAX_LINE_CHARS
        lines.append(_line(number, raw))
    return BuildLog(tuple(lines), number, left_out, shortened, is_binary)


def unwrap(raw: str) -> tuple[str, str]:
    """Split a raw log line into `(worker, text)`, without the CI system's timestamps, prefixes and control characters.

    The worker is the container, step or task that wrote the line; "" if no prefix names one. The markers of GitHub
    Actions (`##[error]`, `##[group]`, `[command]`) stay in the text. At most `MAX_LINE_CHARS` characters are read.
    """
    text = raw[:MAX_LINE_CHARS]
    # Their ends are marked by an escape sequence, so they are removed before those.
    if "section_" in text:
        text = _GITLAB_SECTION.sub("", text)
    if "travis_" in text:
        text = _TRAVIS_FOLD.sub("", text)
    if "\x1b" in text:
        text = _ESCAPES.sub("", text)
    worker = ""
    # Most lines have no tabs and no control characters: without these two patterns a line takes 1.0 µs in place of 1.8 µs.
    columns = _GITHUB_COLUMNS.match(text) if "\t" in text else None
    if columns:
        text = text[columns.end() :]
    if not text.isprintable():
        text = _CONTROL.sub("", text)
    if text[:1] in _CLOCK_STARTS:
        text = _without_clock(text)
    if text.startswith('{"'):
        event = event_output(text)
        if event is not None:
            worker, text = event
            text = _CONTROL.sub("", _ESCAPES.sub("", text))
    else:
        found = _WORKER.match(text)
        if found is not None and found.lastindex is not None:
            worker, text = found[found.lastindex], text[found.end() :]
    return worker, text.rstrip()


def _without_clock(text: str) -> str:
    """Return the text of a line without the timestamp or clock at its start; `text` starts with `[` or a digit."""
    for pattern in (_TIMESTAMP, _CLOCK):
        found = pattern.match(text)
        if found:
            text = text[found.end() :]
    return text


def envelope_times_us(raw: bytes) -> list[int]:
    """Return the timestamps that a CI system put into log lines, in order, in microseconds since 1970.

    Lines without a timestamp are skipped.

    Args:
        raw: some lines of a log, as the CI wrote them.
    """
    found = []
    for text in _split(raw):
        line = text[:MAX_LINE_CHARS].lstrip("\ufeff")
        section = _SECTION_TIME.search(line)
        if section:
            found.append(int(section[1]) * 1_000_000)
            continue
        columns = _GITHUB_COLUMNS.match(line)
        stamp = _TIMESTAMP.match(line[columns.end() :] if columns else line)
        if stamp:
            try:
                found.append(parse_time(stamp[0].split()[0].strip("[]").replace(",", ".")))
            except ValueError:
                # The form of a time with impossible numbers, such as an hour 25.
                continue
    return found


def _line(number: int, raw: str) -> BuildLine:
    worker, text = unwrap(raw)
    return BuildLine(number, text, worker)


@dataclass(slots=True)
class LineEnds:
    """Counts the line ends of a log that is read in chunks and not kept.

    A CR LF that is split between two chunks is counted once.
    """

    count: int = 0
    ended_with_return: bool = False

    def add(self, data: bytes) -> None:
        """Count the line ends of the next chunk."""
        if not data:
            return
        self.count += data.count(b"\n") + data.count(b"\r") - data.count(b"\r\n")
        # A pair that two chunks share is one line end.
        self.count -= self.ended_with_return and data.startswith(b"\n")
        self.ended_with_return = data.endswith(b"\r")


def _read_ends(source: ByteSource) -> tuple[bytes, bytes, int | None]:
    """Read a log; return `(beginning, end, number of line ends between them)`.

    A log of at most 16 MiB is returned whole, as `(all bytes, b"", None)`. Otherwise, the beginning has at most 4 MiB,
    and the end at most 12 MiB. Each is cut after a line end. A beginning or end without a line end is cut inside a
    line.
    """
    head = _read_up_to(source, MAX_HEAD_BYTES + MAX_TAIL_BYTES)
    if len(head) < MAX_HEAD_BYTES + MAX_TAIL_BYTES:
        return head, b"", None
    more = source.read(_CHUNK_BYTES)
    if not more:
        return head, b"", None
    cut = _after_last_line_end(head, MAX_HEAD_BYTES)
    tail, middle = bytearray(head[cut:]), LineEnds()
    head = head[:cut]
    while more:
        tail += more
        excess = len(tail) - MAX_TAIL_BYTES
        if excess >= _CHUNK_BYTES:
            middle.add(bytes(tail[:excess]))
            del tail[:excess]
        more = source.read(_CHUNK_BYTES)
    start = _after_next_line_end(tail, max(0, len(tail) - MAX_TAIL_BYTES))
    middle.add(bytes(tail[:start]))
    return head, bytes(tail[start:]), middle.count


def _after_last_line_end(data: bytes, before: int) -> int:
    """Return the position after the last line end that starts before the position `before`.

    Return `before` if there is no such line end.
    """
    end = max(data.rfind(b"\n", 0, before), data.rfind(b"\r", 0, before)) + 1
    return end + (data[end - 1 : end + 1] == b"\r\n") if end else before


def _after_next_line_end(data: bytearray, start: int) -> int:
    """Return the position after the first line end at or after the position `start`.

    Return `start` if no line end follows.
    """
    found = _LINE_END_BYTES.search(data, start)
    return found.end() if found else start


def _read_up_to(source: ByteSource, size: int) -> bytes:
    """Return the next `size` bytes of a source, or fewer at its end.

    The source is read repeatedly, because a pipe returns its bytes in pieces.
    """
    pieces: list[bytes] = []
    while size > 0:
        piece = source.read(min(size, _CHUNK_BYTES))
        if not piece:
            break
        pieces.append(piece)
        size -= len(piece)
    return b"".join(pieces)


def _split(data: bytes) -> Iterator[str]:
    """Yield the lines of `data` without their line ends; a line end at the very end does not start another line."""
    for line in io.TextIOWrapper(io.BytesIO(data), "utf-8", "replace"):
        yield line.removesuffix("\n")

"""Shorten the log of a build, and read from a log the tests and the cause of the failure.

A shortened log has the beginning and the end of the log; one line replaces the middle.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import Final

from relab.builds.logs.groups import FailureCause, failure_cause, headline
from relab.builds.logs.named_tests import LoggedTests, named_tests
from relab.builds.logs.reading import LineEnds, read_log
from relab.builds.logs.relevance import relevant_lines
from relab.builds.logs.shortened import middle_line

HEAD_BYTES: Final = 262_144
TAIL_BYTES: Final = 786_432
_CHUNK_BYTES: Final = 1 << 20
_MAX_LINE: Final = 300


def bounded_log(path: Path) -> tuple[str, int]:
    """Return `(text, size)`: the text of a log file, shortened to about 1 MiB, and the size of the whole file in bytes.

    If the log is longer, one line replaces its middle and gives the number of missing bytes. Bytes that are not UTF-8
    are replaced.

    Raises:
        OSError: the file cannot be read.
    """
    with path.open("rb") as file:
        size = file.seek(0, 2)
        file.seek(0)
        if size <= HEAD_BYTES + TAIL_BYTES:
            return file.read(size).decode(errors="replace"), size
        head = file.read(HEAD_BYTES)
        ends = LineEnds()
        ends.add(head)
        while piece := file.read(min(_CHUNK_BYTES, size - TAIL_BYTES - file.tell())):
            ends.add(piece)
        tail = file.read(TAIL_BYTES)
        ends.add(tail)
    return join_ends(head, tail, size, ends.count), size


def join_ends(head: bytes, tail: bytes, size: int, line_ends: int) -> str:
    """Return a shortened log: the beginning, a line that replaces the middle, and the end.

    The line that replaces the middle gives the number of bytes that are left out, and the number of the next line in
    the whole log. The beginning and the end are cut to whole lines if possible.

    Args:
        head: the first bytes of the log.
        tail: the last bytes of the log.
        size: the size of the whole log, in bytes.
        line_ends: the number of line ends of the whole log.
    """
    head = head[: head.rfind(b"\n") + 1] or head
    tail = tail[tail.find(b"\n") + 1 :] or tail
    left_out = size - len(head) - len(tail)
    break_before = "" if head.endswith(b"\n") else "\n"
    ends = LineEnds()
    ends.add(tail)
    middle = f"{break_before}{middle_line(left_out, line_ends - ends.count + 1)}"
    return head.decode(errors="replace") + middle + tail.decode(errors="replace")


def tests_of(path: Path, *, has_succeeded: bool) -> LoggedTests:
    """Return the results of tests that the log file at `path` names.

    Of a large log, the first 4 MiB and the last 12 MiB are read.

    Args:
        path: the log file.
        has_succeeded: whether the build succeeded; a test that failed and passed in it is then flaky.

    Raises:
        OSError: the file cannot be read.
    """
    with path.open("rb") as file:
        return named_tests(read_log(file).lines, has_succeeded=has_succeeded)


def error_and_cause(log: str) -> tuple[str | None, FailureCause | None]:
    """Return `(line, cause)`: the line of a log that says most about the failure, and the cause of the failure.

    - The line is cut to 300 characters. If no line reports an error, it is the last line with text. It is None if the
      log has no text.
    - The cause is None if it is unknown. Failed builds with the same cause form a group.
    """
    read = read_log(io.BytesIO(log.encode()))
    relevant = relevant_lines(read)
    cause = failure_cause(relevant, read.lines)
    chosen = headline(relevant, cause)
    if chosen is None:
        chosen = next((line.text for line in reversed(read.lines) if line.text), None)
    return None if chosen is None else chosen[:_MAX_LINE], cause

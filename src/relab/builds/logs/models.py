"""The lines of a build's log, and the lines among them that explain a failure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol


@dataclass(frozen=True, slots=True)
class BuildLine:
    r"""One line of a log, without the timestamps and prefixes that a CI system puts before it.

    Attributes:
        number: the number of the line in the file, from 1; `\n`, `\r\n` and a lone `\r` end a line.
        text: the line without timestamp, escape sequences and control characters; at most `MAX_LINE_CHARS` characters.
        worker: the worker, container or job that wrote the line if its prefix names one, otherwise "".
    """

    number: int
    text: str
    worker: str = ""


@dataclass(frozen=True, slots=True)
class BuildLog:
    """The lines that were read from a log. Of a very large log, only the beginning and the end are read.

    Attributes:
        lines: the lines that were read, in the order of the file.
        total_lines: the number of lines of the file.
        left_out: the first and the last number of the lines that were left out because the file is too large; None if
            the file was read whole.
        shortened_lines: the number of lines of which only the beginning was kept.
        is_binary: whether the file contains NUL bytes in its first block, so that it is probably not text.
    """

    lines: tuple[BuildLine, ...]
    total_lines: int
    left_out: tuple[int, int] | None = None
    shortened_lines: int = 0
    is_binary: bool = False


class LineRole(StrEnum):
    """What a relevant line reports: an error, a detail of an error, or only that the build failed."""

    ERROR = "error"
    """It reports an error."""
    DETAIL = "detail"
    """It belongs to a reported error: a message that goes on, a frame of a stack trace, a quoted source line."""
    CONSEQUENCE = "consequence"
    """It reports that the build failed, or advises where to read on, and names no cause."""


@dataclass(frozen=True, slots=True)
class RelevantLine:
    """A line that helps to explain why a build failed.

    Attributes:
        number: the number of the line in the file, from 1.
        text: the text of the line, as in `BuildLine`.
        role: the role of the line in the explanation.
        score: how much the line says about the failure, from 0 to 1.
        why: why the line was chosen, for people.
    """

    number: int
    text: str
    role: LineRole
    score: float
    why: str


class ByteSource(Protocol):
    """A file or stream of bytes that is read from its current position."""

    def read(self, size: int, /) -> bytes:
        """Return at most `size` bytes; empty at the end."""
        ...

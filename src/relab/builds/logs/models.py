"""Classes for the log of a build: the log, its lines, and the lines that explain a failure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol


@dataclass(frozen=True, slots=True)
class BuildLine:
    r"""One line of a log, without the timestamps and prefixes that a CI system puts before it.

    Attributes:
        number: the number of the line in the file, from 1. `\n`, `\r\n` and a lone `\r` end a line.
        text: the text without escape sequences and control characters, at most `MAX_LINE_CHARS` characters.
        worker: the worker, container or job that wrote the line; "" if no prefix names one.
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
        left_out: `(first, last)`, the numbers of the first and the last line not read; None if all lines were read.
        shortened_lines: the number of lines that were cut, so that only their beginning is kept.
        is_binary: whether the first MiB of the file contains many NUL bytes (more than 0.1 %); the file is then
            probably not text.
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
    """It reports that the build failed, or where to read further, but it names no cause."""


@dataclass(frozen=True, slots=True)
class RelevantLine:
    """A line that helps to explain why a build failed.

    Attributes:
        number: the number of the line in the file, from 1.
        text: the text of the line without escape sequences and control characters, at most `MAX_LINE_CHARS` characters.
        role: whether the line is an error, a detail or a consequence.
        score: how much the line says about the failure, from 0 to 1.
        why: the reason why the line was chosen, as a phrase for people.
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

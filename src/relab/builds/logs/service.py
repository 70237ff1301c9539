"""Open the log of a build, and list its failed tests. `lab builds explain` uses this package through this module."""

from __future__ import annotations

from pathlib import Path

from relab.builds.logs.bounded import MAX_LOG_BYTES, BoundedSource
from relab.builds.logs.encoding import packed_by, peek
from relab.builds.logs.errors import BuildLogUnreadableError
from relab.builds.logs.models import BuildLog, ByteSource, LineRole, RelevantLine
from relab.builds.logs.named_tests import named_tests
from relab.builds.logs.reading import read_log
from relab.builds.logs.relevance import relevant_lines
from relab.builds.models import BuildTestOutcome
from relab.core.regular_files import open_regular_file

__all__ = ["BuildLog", "LineRole", "RelevantLine", "failed_tests", "open_log", "open_stream", "relevant_lines"]


def failed_tests(log: BuildLog) -> list[str]:
    """Return the names of the tests that failed, including those that passed when repeated, in the order of the log."""
    is_failure = {BuildTestOutcome.FAILED, BuildTestOutcome.FLAKY}
    return [test.name for test in named_tests(log.lines).tests.values() if test.outcome in is_failure]


def open_log(path: str) -> BuildLog:
    """Read the log in the file at `path`.

    Raises:
        BuildLogUnreadableError: the file does not exist, is neither a regular file nor a pipe of a shell, is
            compressed, is too large, or is not readable for this user.
    """
    try:
        file = open_regular_file(Path(path))
    except (OSError, ValueError) as error:
        raise _unreadable(path, error) from error
    with file:
        try:
            return open_stream(file, path)
        except OSError as error:
            raise _unreadable(path, error) from error


def open_stream(file: ByteSource, name: str, most_bytes: int = MAX_LOG_BYTES) -> BuildLog:
    """Read the log in an open file or stream; error messages call it `name`.

    Raises:
        BuildLogUnreadableError: the file is compressed, or has more than `most_bytes` bytes.
        OSError: the file cannot be read.
    """
    head, whole = peek(BoundedSource(file, most_bytes), 8)
    packed = packed_by(head)
    if packed is not None:
        raise BuildLogUnreadableError(
            f"The log {name[:300]!r} is compressed ({packed}).",
            remedy="Unpack it; for example: gzip -dc FILE | lab builds explain -",
        )
    return read_log(whole)


def _unreadable(path: str, error: OSError | ValueError) -> BuildLogUnreadableError:
    reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return BuildLogUnreadableError(
        f"The log {path[:300]!r} cannot be read: {reason}.", remedy="Name a readable file, or - for standard input."
    )

"""Limit the size of a log that is read, so that relab does not read an endless stream for ever."""

from __future__ import annotations

from typing import Final

from relab.builds.logs.errors import BuildLogUnreadableError
from relab.builds.logs.models import ByteSource

MAX_LOG_BYTES: Final = 4 << 30


class BoundedSource:
    """Returns the bytes of another source; `read` raises an error if the source has more than `most_bytes` bytes."""

    def __init__(self, source: ByteSource, most_bytes: int = MAX_LOG_BYTES) -> None:
        self._source = source
        self._most_bytes = most_bytes
        self._read_bytes = 0

    def read(self, size: int, /) -> bytes:
        """Return the next bytes of the source, at most `size`; empty at the end.

        Raises:
            BuildLogUnreadableError: the source has more bytes than the bound.
        """
        piece = self._source.read(size)
        self._read_bytes += len(piece)
        if self._read_bytes > self._most_bytes:
            raise BuildLogUnreadableError(
                f"The log has more than {self._most_bytes:,} bytes, or no end.", remedy="Give the end of it: tail -c 1G"
            )
        return piece

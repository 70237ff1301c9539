"""Read a stream of bytes once; meanwhile compute its digest and size, and keep its beginning and its end."""

from __future__ import annotations

import hashlib
from typing import Final

from relab.builds.logs.models import ByteSource
from relab.builds.logs.reading import LineEnds
from relab.builds.monitor.build_log import HEAD_BYTES, TAIL_BYTES, join_ends

_PEEKED_BYTES: Final = 65_536


class RememberingSource:
    """Reads bytes from another source, and keeps the first and the last bytes, together at most about 1 MiB.

    Attributes:
        size: the number of bytes that were read so far.
        first: the first 64 KiB, which are read when the object is created.
    """

    def __init__(self, source: ByteSource) -> None:
        self._source = source
        self._hash = hashlib.sha256()
        self._ends = LineEnds()
        self._head = bytearray()
        self._tail = bytearray()
        self.size = 0
        self.first = b""
        while len(self.first) < _PEEKED_BYTES:
            piece = self._take(_PEEKED_BYTES - len(self.first))
            if not piece:
                break
            self.first += piece
        self._unread = self.first

    def read(self, size: int, /) -> bytes:
        """Return the next bytes of the source, at most `size`; empty at the end.

        The calls return all bytes of the source: first the bytes that `__init__` has already read (`first`), then the
        rest.
        """
        if self._unread:
            piece, self._unread = self._unread[:size], self._unread[size:]
            return piece
        return self._take(size)

    def digest(self) -> str:
        """Return the SHA-256 of all bytes that were read so far, in hex."""
        return self._hash.hexdigest()

    def ends(self) -> tuple[bytes, bytes]:
        """Return `(beginning, end)`, the kept bytes at the beginning and at the end of the bytes that were read so far.

        The two parts do not overlap. If few bytes were read, the two parts together are all of them; otherwise bytes in
        the middle are missing.
        """
        return bytes(self._head), bytes(self._tail[-TAIL_BYTES:])

    def text(self) -> str:
        """Return the kept bytes as text; bytes that are not UTF-8 are replaced.

        If bytes in the middle were not kept, one line replaces them and gives their number.
        """
        head, tail = self.ends()
        if len(head) + len(tail) == self.size:
            return (head + tail).decode(errors="replace")
        return join_ends(head, tail, self.size, self._ends.count)

    def _take(self, size: int) -> bytes:
        piece = self._source.read(size)
        self._hash.update(piece)
        self._ends.add(piece)
        self.size += len(piece)
        rest = piece
        if len(self._head) < HEAD_BYTES:
            free = HEAD_BYTES - len(self._head)
            self._head += piece[:free]
            rest = piece[free:]
        self._tail += rest
        # Cut rarely, because each cut moves the whole end.
        if len(self._tail) > 2 * TAIL_BYTES:
            del self._tail[:-TAIL_BYTES]
        return piece

"""Convert logs in UTF-16, which PowerShell writes on Windows, to UTF-8, and recognise compressed logs."""

from __future__ import annotations

import codecs
from typing import Final

from relab.builds.logs.models import ByteSource

_BYTE_ORDER_MARKS: Final = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_PACKED: Final = {
    b"\x1f\x8b": "gzip",
    b"PK\x03\x04": "zip",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"\xfd7zXZ": "xz",
    b"BZh": "bzip2",
}


def packed_by(head: bytes) -> str | None:
    """Return the name of the program that compressed a file with these first bytes; None if it is not compressed."""
    return next((name for magic, name in _PACKED.items() if head.startswith(magic)), None)


def as_utf8(source: ByteSource) -> ByteSource:
    """Return a source of the same text in UTF-8.

    Only UTF-16 with a byte order mark is converted; the bytes of any other source are returned unchanged.
    """
    head, whole = peek(source, 2)
    return _Utf16(whole) if head in _BYTE_ORDER_MARKS else whole


def peek(source: ByteSource, size: int) -> tuple[bytes, ByteSource]:
    """Read the first bytes of a source; return `(first bytes, source that returns all bytes from the start)`.

    Args:
        source: the source.
        size: the number of first bytes; fewer are returned if the source is shorter.
    """
    head = b""
    while len(head) < size and (piece := source.read(size - len(head))):
        head += piece
    return head, _Rest(head, source)


class _Rest:
    """A source whose first bytes have already been read: it returns these bytes again, and then the rest."""

    def __init__(self, head: bytes, source: ByteSource) -> None:
        self._head = head
        self._source = source

    def read(self, size: int, /) -> bytes:
        """Return at most `size` bytes; empty at the end."""
        if self._head:
            piece, self._head = self._head[:size], self._head[size:]
            return piece
        return self._source.read(size)


class _Utf16:
    """Converts a source in UTF-16 to UTF-8; invalid code units become U+FFFD."""

    def __init__(self, source: ByteSource) -> None:
        self._source = source
        self._decoder = codecs.getincrementaldecoder("utf-16")("replace")
        self._ready = b""
        self._has_ended = False

    def read(self, size: int, /) -> bytes:
        """Return at most `size` bytes of the source, converted to UTF-8; empty at the end."""
        while not self._ready and not self._has_ended:
            piece = self._source.read(size)
            self._has_ended = not piece
            self._ready = self._decoder.decode(piece, final=self._has_ended).encode("utf-8", "replace")
        piece, self._ready = self._ready[:size], self._ready[size:]
        return piece

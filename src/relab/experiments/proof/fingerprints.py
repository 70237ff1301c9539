"""Compute fingerprints of files, and find the first changed byte of a file from its earlier fingerprint.

A fingerprint has the SHA-256 of the file and a checksum of each block of 4 KiB. The SHA-256 shows whether the file was
changed. The first block with another checksum contains the first changed byte.

A block's checksum is the first 12 bytes of its SHA-256, followed by its Adler-32. If exactly one byte of the block was
changed, its position follows from Adler-32, whose two sums are linear in the bytes (RFC 1950, section 8.2). To confirm
the position, the old byte is restored and the block's checksum is compared. If no position is confirmed, the result is
the range of the whole block.
"""

from __future__ import annotations

import hashlib
import os
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import zip_longest
from typing import BinaryIO, Final, NamedTuple

BLOCK_BYTES: Final = 4_096
_STRONG: Final = 12
_CHECK: Final = _STRONG + 4
_PIECE: Final = 64 * BLOCK_BYTES
_ADLER_PRIME: Final = 65_521


class Fingerprint(NamedTuple):
    """The fingerprint of a file.

    Attributes:
        size: the length of the file in bytes.
        sha256: the SHA-256 of the file, in hexadecimal.
        blocks: the checksums of the file's blocks of `BLOCK_BYTES` bytes, one after the other; empty for an empty file.
    """

    size: int
    sha256: str
    blocks: bytes


@dataclass(frozen=True, slots=True)
class ChangedAt:
    """The range of offsets with the first byte of a file that was changed since the file's fingerprint was computed.

    Attributes:
        begin, end: `begin <= offset of the first changed byte < end`; offsets count from 0.
    """

    begin: int
    end: int

    @property
    def is_exact(self) -> bool:
        """Whether the exact offset of the first changed byte is known. This offset is then `begin`."""
        return self.end == self.begin + 1


def fingerprint(descriptor: int, size: int) -> Fingerprint:
    """Return the fingerprint of a file: its size, its SHA-256 and the checksums of its blocks.

    Args:
        descriptor: the file, open for reading at its beginning; it stays open.
        size: the length of the file in bytes, from `fstat`. If the length changes during the call, the fingerprint
            describes the bytes that were read.
    """
    pieces = pieces_of(descriptor, size)
    piece = next(pieces, b"")
    whole, read = hashlib.sha256(piece), len(piece)
    if read == size <= BLOCK_BYTES:
        # The only block is the whole file.
        digest = whole.digest()
        return Fingerprint(size, digest.hex(), _joined(digest, piece) if piece else b"")
    blocks = list(_checks_of(piece))
    for piece in pieces:
        whole.update(piece)
        read += len(piece)
        blocks += _checks_of(piece)
    return Fingerprint(read, whole.hexdigest(), b"".join(blocks))


def digest_of(descriptor: int, size: int) -> tuple[str, int]:
    """Return the SHA-256 of a file, in hexadecimal, and the number of bytes that were read.

    Args:
        descriptor: the file, open for reading at its beginning; it stays open.
        size: the length of the file in bytes, from `fstat`.
    """
    whole, read = hashlib.sha256(), 0
    for piece in pieces_of(descriptor, size):
        whole.update(piece)
        read += len(piece)
    return whole.hexdigest(), read


def find_change(before: Fingerprint, file: BinaryIO) -> ChangedAt | None:
    """Return the range with the first changed byte of a file, according to its fingerprint; None without a change.

    Args:
        before: the fingerprint of the file as it was.
        file: the file as it is, open for reading at its beginning.
    """
    begin = 0
    for expected, block in zip_longest(_checks(before.blocks), _blocks(file)):
        if expected is None:
            # The file is longer than before: the first new byte is the change.
            return ChangedAt(begin, begin + 1)
        if block is None:
            # The file is shorter than before: it ends where its next block began.
            return ChangedAt(begin, begin + 1)
        length = min(BLOCK_BYTES, before.size - begin)
        if len(block) > length and _check_of(block[:length]) == expected:
            return ChangedAt(begin + length, begin + length + 1)
        if _check_of(block) != expected:
            if len(block) == length:
                return _place_in(block, expected, begin)
            # The block is shorter than before, and its remaining bytes may be changed, too.
            return ChangedAt(begin, begin + min(len(block), length) + 1)
        begin += len(block)
    return None


def first_difference(before: BinaryIO, after: BinaryIO) -> int | None:
    """Return the offset of the first byte in which two files differ; None if the files are equal."""
    begin = 0
    while True:
        old, new = before.read(_PIECE), after.read(_PIECE)
        if old != new:
            shorter = min(len(old), len(new))
            return begin + next((at for at in range(shorter) if old[at] != new[at]), shorter)
        if not old:
            return None
        begin += len(old)


def _place_in(block: bytes, expected: bytes, begin: int) -> ChangedAt:
    """Return the range of the change in a block: the changed byte if only one was changed, else the whole block.

    Args:
        block: the changed block, as it is now.
        expected: the recorded checksum of the block: the beginning of its SHA-256, and its Adler-32. The Adler-32 gives
            the place of a single changed byte.
        begin: the offset of the block in its file.
    """
    now, then = zlib.adler32(block), int.from_bytes(expected[_STRONG:], "big")
    low = ((now & 0xFFFF) - (then & 0xFFFF)) % _ADLER_PRIME
    high = ((now >> 16) - (then >> 16)) % _ADLER_PRIME
    for change in (low, low - _ADLER_PRIME):
        if not -256 < change < 256 or change == 0:
            continue
        # The higher sum counts the byte at `position` once for itself and once for each byte after it.
        position = len(block) - high * pow(change, -1, _ADLER_PRIME) % _ADLER_PRIME
        if not 0 <= position < len(block) or not 0 <= block[position] - change < 256:
            continue
        restored = bytearray(block)
        restored[position] -= change
        if _check_of(restored) == expected:
            return ChangedAt(begin + position, begin + position + 1)
    return ChangedAt(begin, begin + len(block))


def pieces_of(descriptor: int, size: int) -> Iterator[bytes]:
    """Yield the content of a file in pieces of 256 KiB; the last piece may be shorter.

    Args:
        descriptor: the file, open for reading at its beginning; it stays open.
        size: the length of the file in bytes, from `fstat`. The file is read to its end even if the length has changed.
    """
    # One byte more than the file has: a shorter result shows the end, so that most files need only one call.
    piece = os.read(descriptor, min(size + 1, _PIECE))
    if len(piece) == size:
        if piece:
            yield piece
        return
    while piece:
        while len(piece) < _PIECE and (more := os.read(descriptor, _PIECE - len(piece))):
            piece += more
        yield piece
        piece = os.read(descriptor, _PIECE)


def _checks_of(piece: bytes) -> Iterator[bytes]:
    view = memoryview(piece)
    return (_check_of(view[begin : begin + BLOCK_BYTES]) for begin in range(0, len(piece), BLOCK_BYTES))


def _check_of(block: bytes | bytearray | memoryview) -> bytes:
    return _joined(hashlib.sha256(block).digest(), block)


def _joined(digest: bytes, block: bytes | bytearray | memoryview) -> bytes:
    return digest[:_STRONG] + zlib.adler32(block).to_bytes(4, "big")


def _checks(blocks: bytes) -> Iterator[bytes]:
    for begin in range(0, len(blocks), _CHECK):
        yield blocks[begin : begin + _CHECK]


def _blocks(file: BinaryIO) -> Iterator[bytes]:
    while block := file.read(BLOCK_BYTES):
        yield block

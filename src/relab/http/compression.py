"""Decompress the bodies of requests: gzip, deflate and Zstandard, up to a given size.

OpenTelemetry's SDK for Python compresses with gzip or deflate, its Collector also with Zstandard.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

from relab.core.errors import MalformedBodyError, TooLargeError

_MAX_WINDOW_BYTES: Final = 8 * 1_048_576
"""The window of Zstandard that RFC 9659 allows for the content encoding `zstd`; a decoder needs as much memory."""


class _Unpacked(NamedTuple):
    """The decompressed bytes, whether the compressed data ended, and whether other bytes follow the compressed data."""

    content: bytes
    is_whole: bool
    is_followed: bool


class _DamagedError(Exception):
    """The bytes are not compressed as declared; the message has the reason."""


def decompress(raw: bytes, encoding: str, max_bytes: int) -> bytes:
    """Decompress the body of a request to at most `max_bytes` bytes.

    Args:
        raw: the compressed body: one stream of the encoding, and nothing after it.
        encoding: the value of the header `Content-Encoding`, a key of `DECODERS`.
        max_bytes: the maximum size of the decompressed body. Decompression stops there, which also limits the memory.

    Raises:
        TooLargeError: the decompressed body is larger than `max_bytes`.
        MalformedBodyError: the bytes are not valid in this encoding.
    """
    try:
        unpacked = DECODERS[encoding](raw, max_bytes + 1)
    except _DamagedError as error:
        raise MalformedBodyError(f"The body is not {encoding}: {error}.") from error
    if len(unpacked.content) > max_bytes:
        raise body_too_large(max_bytes)
    if not unpacked.is_whole:
        raise MalformedBodyError(f"The {encoding} body ends too early.")
    if unpacked.is_followed:
        raise MalformedBodyError(f"The {encoding} body is followed by other bytes.")
    return unpacked.content


def body_too_large(max_bytes: int) -> TooLargeError:
    """Return (not raise) the error for a body that is larger than `max_bytes`."""
    return TooLargeError(
        f"The body is larger than {max_bytes:,} bytes.",
        remedy="Send less at once, or raise RELAB_HTTP__MAX_BODY_MB.",
    )


def _inflate(raw: bytes, limit: int, wbits: int) -> _Unpacked:
    unpacker = zlib.decompressobj(wbits=wbits)
    try:
        content = unpacker.decompress(raw, limit)
    except zlib.error as error:
        raise _DamagedError(str(error)) from error
    return _Unpacked(content, unpacker.eof, bool(unpacker.unused_data))


def _gunzip(raw: bytes, limit: int) -> _Unpacked:
    return _inflate(raw, limit, zlib.MAX_WBITS | 16)


def _inflate_zlib(raw: bytes, limit: int) -> _Unpacked:
    return _inflate(raw, limit, zlib.MAX_WBITS)


def _unzstd(raw: bytes, limit: int) -> _Unpacked:
    import zstandard  # noqa: PLC0415 most clients send gzip or no encoding

    decompressor = zstandard.ZstdDecompressor(max_window_size=_MAX_WINDOW_BYTES)
    try:
        # Only the reader can stop at a limit, and only `decompressobj` reports how the data ended, so both are used.
        content = decompressor.stream_reader(raw, read_across_frames=False).read(limit)
        if len(content) >= limit:
            return _Unpacked(content, is_whole=False, is_followed=False)
        unpacker = decompressor.decompressobj(read_across_frames=False)
        return _Unpacked(unpacker.decompress(raw), unpacker.eof, bool(unpacker.unused_data))
    except zstandard.ZstdError as error:
        raise _DamagedError(str(error)) from error


DECODERS: Final[Mapping[str, Callable[[bytes, int], _Unpacked]]] = {
    "gzip": _gunzip,
    # The content encoding `deflate` is the format of zlib (RFC 9110); OpenTelemetry's Collector also calls it `zlib`.
    "deflate": _inflate_zlib,
    "zlib": _inflate_zlib,
    "zstd": _unzstd,
}
"""`{content encoding: function}`; each function stops after the given number of decompressed bytes."""

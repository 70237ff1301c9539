"""Reading the body of an ingest request: its type, its encoding, its size once unpacked."""

from __future__ import annotations

import asyncio
import zlib

from fastapi import HTTPException, Request
from starlette.concurrency import run_in_threadpool

from relab.api.middleware import body_too_large
from relab.core.errors import MalformedBodyError, UnsupportedMediaError

ARRIVES_WITHIN_S = 60.0
"""Slow clients must not keep the places of others for ever."""


async def read_json_body(request: Request, max_bytes: int) -> bytes:
    """Return the bytes of a JSON body, unpacked if it came as gzip.

    Raises:
        UnsupportedMediaError: the content type is not JSON, or the encoding not gzip.
        TooLargeError: the body is over `max_bytes`, packed or unpacked.
        MalformedBodyError: the body is no gzip.
        HTTPException: 408, the body did not arrive in time.
    """
    media_type = request.headers.get("content-type", "application/json").partition(";")[0].strip().lower()
    # curl's default is a form type; what the seed's users paste must say JSON, as the seed shows.
    if media_type != "application/json" and not (
        media_type.startswith("application/") and media_type.endswith("+json")
    ):
        raise UnsupportedMediaError(
            f"The content type {media_type[:100]!r} is not JSON.",
            remedy="Send `Content-Type: application/json`.",
        )
    encoding = request.headers.get("content-encoding", "identity").strip().lower()
    try:
        async with asyncio.timeout(ARRIVES_WITHIN_S):
            raw = await request.body()
    except TimeoutError as error:
        raise HTTPException(
            408, f"The body did not arrive within {ARRIVES_WITHIN_S:g} s", {"Connection": "close"}
        ) from error
    if encoding == "identity":
        return raw
    if encoding != "gzip":
        raise UnsupportedMediaError(
            f"The content encoding {encoding[:100]!r} is not read here.", remedy="Send gzip, or no encoding."
        )
    return await run_in_threadpool(unpack_gzip, raw, max_bytes)


def unpack_gzip(raw: bytes, max_bytes: int) -> bytes:
    """Unpack gzip without ever holding more than `max_bytes` of the result.

    Raises:
        TooLargeError: there is more.
        MalformedBodyError: the bytes are no gzip, or cut short.
    """
    unpacker = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)
    try:
        unpacked = unpacker.decompress(raw, max_bytes + 1)
    except zlib.error as error:
        raise MalformedBodyError(f"The body is not gzip: {error}.") from error
    if len(unpacked) > max_bytes:
        raise body_too_large(max_bytes)
    if not unpacker.eof:
        raise MalformedBodyError("The gzip body is cut short.")
    if unpacker.unused_data:
        raise MalformedBodyError("The gzip body is followed by other bytes.")
    return unpacked

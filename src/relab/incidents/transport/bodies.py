"""Read the bodies of responses with a limit on their size."""

from __future__ import annotations

from typing import Final

import httpx

MAX_BYTES: Final = 4 << 20


class BodyTooLongError(Exception):
    """The body of a response is longer than `MAX_BYTES`; the rest of it was not read."""

    def __init__(self) -> None:
        super().__init__(f"more than {MAX_BYTES:,} bytes")


def encoding_of(response: httpx.Response) -> str:
    """Return the content encoding of a response, such as `gzip`; empty if its body is not encoded."""
    encoding: str = response.headers.get("Content-Encoding", "").strip().lower()
    return "" if encoding == "identity" else encoding


async def whole_body(response: httpx.Response) -> bytes:
    """Return the body of a streamed response as it was sent, without decoding it.

    Raises:
        BodyTooLongError: the body is longer than `MAX_BYTES`.
        httpx.HTTPError, httpx.StreamError: the connection broke.
    """
    body = await beginning_of_body(response, MAX_BYTES + 1)
    if len(body) > MAX_BYTES:
        raise BodyTooLongError
    return body


async def beginning_of_body(response: httpx.Response, max_bytes: int) -> bytes:
    """Return the first bytes of the body of a streamed response, at most `max_bytes`.

    Raises:
        httpx.HTTPError, httpx.StreamError: the connection broke.
    """
    found = bytearray()
    # Never decode a body: it could decompress to any size.
    async for part in response.aiter_raw() if encoding_of(response) else response.aiter_bytes():
        found += part
        if len(found) >= max_bytes:
            break
    return bytes(found[:max_bytes])

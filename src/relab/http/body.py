"""Read the bodies of requests: limits of size and time, content type, compression, JSON."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Annotated, Any, Final, cast

from fastapi import Depends, HTTPException, Request
from pydantic import BaseModel, ValidationError
from starlette.concurrency import run_in_threadpool

from relab.core.errors import (
    InvalidInputError,
    OverloadedError,
    TooLargeError,
    UnsupportedMediaError,
)
from relab.core.json import JsonValue, canonical_json, parse_json, replace_nul, whole
from relab.core.validation import problems_in
from relab.http.compression import DECODERS, decompress
from relab.http.openapi import DocumentedBody

MAX_SMALL_BODY_BYTES = 262_144
_IDENTITY: Final = "identity"


class IngestGate:
    """Limits the ingest requests in progress, by their number and by the total size of their bodies.

    It is not thread-safe: use it only on the event loop.

    Args:
        max_requests: the greatest number of requests in progress.
        max_bytes: the greatest total size of their bodies; a larger body is permitted while it is the only one.
    """

    def __init__(self, *, max_requests: int, max_bytes: int) -> None:
        self._max_requests = max_requests
        self._max_bytes = max_bytes
        self.requests = 0
        self.bytes = 0
        self.decoding = asyncio.Semaphore(1)
        """`POST /builds` holds it while it decompresses and parses a body, because small bodies may become large."""

    @asynccontextmanager
    async def reserve(self, declared: int = 0) -> AsyncGenerator[IngestReservation]:
        """Reserve capacity for one request, and for the declared size of its body, while the `async with` block runs.

        Raises:
            OverloadedError: too many requests are in progress, or their bodies are too large together.
        """
        reservation = IngestReservation(self)
        if self.requests >= self._max_requests:
            raise OverloadedError("Too many ingest requests are in progress.", retry_after_s=1)
        self.requests += 1
        try:
            reservation.add(declared)
            yield reservation
        finally:
            self.requests -= 1
            self.bytes -= reservation.bytes

    def add(self, count: int, *, own: int) -> None:
        """Add `count` bytes to the total size of the bodies in progress.

        The body of a single request may exceed the limit while no other body is in progress.

        Args:
            count: the number of bytes.
            own: how many bytes this request has added before; the rest of the total belongs to other requests.

        Raises:
            OverloadedError: the total would exceed the limit, and bodies of other requests are in progress.
        """
        # A single request may exceed the limit: otherwise it could never be stored.
        if self.bytes > own and self.bytes + count > self._max_bytes:
            raise OverloadedError("The ingest requests in progress are too large together.", retry_after_s=1)
        self.bytes += count


class IngestReservation:
    """The capacity that one request has reserved of an `IngestGate`: one request, and `bytes` for its body."""

    def __init__(self, gate: IngestGate) -> None:
        self._gate = gate
        self.bytes = 0

    def add(self, count: int) -> None:
        """Reserve `count` more bytes for the body of this request.

        A body that is the only one in progress may exceed the capacity.

        Raises:
            OverloadedError: the free capacity is smaller than `count`, and other bodies are in progress.
        """
        self._gate.add(count, own=self.bytes)
        self.bytes += count


def declared_length(request: Request) -> int:
    """Return the length of the body that a request declares; 0 if it declares none."""
    declared = request.headers.get("content-length", "")
    return int(declared) if declared.isascii() and declared.isdigit() else 0


@dataclass(frozen=True, slots=True)
class PackedBody:
    """A request's body as it was received, possibly compressed.

    `encoding` is a key of `DECODERS`, or `identity` if the body is not compressed.
    """

    raw: bytes
    encoding: str

    def unpack(self, max_bytes: int) -> bytes:
        """Return the content, decompressed if it is compressed. The size of uncompressed content is not checked.

        Raises:
            TooLargeError: the decompressed content is larger than `max_bytes`.
            MalformedBodyError: the bytes are not valid in the encoding.
        """
        return self.raw if self.encoding == _IDENTITY else decompress(self.raw, self.encoding, max_bytes)


async def read_body(request: Request, reservation: IngestReservation) -> PackedBody:
    """Return the body of an ingest request as it arrived; it may be compressed (`DECODERS`).

    Args:
        request: the request.
        reservation: the request's reserved capacity, extended if the body is larger than declared.

    Raises:
        UnsupportedMediaError: the encoding is not in `DECODERS`.
        TooLargeError: the body is over the server's limit.
        OverloadedError: the body is larger than declared, and there is no capacity for the additional bytes.
        HTTPException: 408, the body did not arrive in time.
    """
    encoding = request.headers.get("content-encoding", "").strip().lower() or _IDENTITY
    if encoding != _IDENTITY and encoding not in DECODERS:
        raise UnsupportedMediaError(
            f"The content encoding {encoding[:100]!r} is not supported here.",
            remedy=f"Send one of {', '.join(DECODERS)}, or no encoding.",
        )
    chunks = []
    arrived = 0
    async with arriving_in_time(request):
        async for chunk in request.stream():
            arrived += len(chunk)
            if arrived > reservation.bytes:
                reservation.add(arrived - reservation.bytes)
            chunks.append(chunk)
    return PackedBody(b"".join(chunks), encoding)


async def small_body(request: Request) -> bytes:
    """Return the bytes of a request's body; the limit is 256 KiB.

    Raises:
        UnsupportedMediaError: the body is compressed.
        TooLargeError: the body is larger than 256 KiB.
        HTTPException: 408, the body did not arrive in time.
    """
    return await body_of_at_most(request, MAX_SMALL_BODY_BYTES)


async def body_of_at_most(request: Request, max_bytes: int) -> bytes:
    """Return the bytes of a request's body.

    Raises:
        UnsupportedMediaError: the body is compressed.
        TooLargeError: the body is larger than `max_bytes`.
        HTTPException: 408, the body did not arrive in time.
    """
    encoding = request.headers.get("content-encoding", "identity").strip().lower()
    if encoding != "identity":
        raise UnsupportedMediaError(
            f"The content encoding {encoding[:100]!r} is not supported here.", remedy="Send no encoding."
        )
    arrived = bytearray()
    async with arriving_in_time(request):
        async for chunk in request.stream():
            arrived += chunk
            if len(arrived) > max_bytes:
                raise TooLargeError(f"The body is larger than {max_bytes:,} bytes.", remedy="Send less.")
    return bytes(arrived)


@asynccontextmanager
async def arriving_in_time(request: Request) -> AsyncGenerator[None]:
    """Limit the time in which the `async with` block must read the body.

    Raises:
        HTTPException: 408, the body did not arrive within RELAB_HTTP__BODY_TIMEOUT_S.
    """
    # Slow clients must not use up the capacity.
    seconds = request.app.state.services.settings.http.body_timeout_s
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError as error:
        raise HTTPException(408, f"The body did not arrive within {seconds:g} s", {"Connection": "close"}) from error


def media_type(request: Request, default: str = "application/json") -> str:
    """Return the content type of a request's body, in lower case and without parameters; `default` without a header."""
    return request.headers.get("content-type", default).partition(";")[0].strip().lower()


def require_json(request: Request) -> None:
    """Check that the content type of a request is JSON, or missing.

    Raises:
        UnsupportedMediaError: the request has another content type.
    """
    given = media_type(request)
    # curl sends a form type by default, so its users must set the header, as the seed shows.
    if given != "application/json" and not (given.startswith("application/") and given.endswith("+json")):
        raise UnsupportedMediaError(
            f"The content type {given[:100]!r} is not JSON.",
            remedy="Send `Content-Type: application/json`.",
        )


RawBody = Annotated[bytes, Depends(small_body)]


class JsonBody(DocumentedBody):
    """A FastAPI dependency that reads a JSON body and returns it as an object of its model; it also documents the body.

    Args:
        model: the model of the body.
        example: an example for the documentation.
        read: converts parsed JSON to the returned object; by default, the model validates it.
        max_bytes: the maximum size of the body.
        is_optional: whether a request without a body is read as `{}`.
        is_strict: whether values must have the model's JSON types, so that a number is not accepted for a boolean. Set
            it for a model that also reads query parameters. Because these are texts, the model itself converts texts.
        replaces_nul: whether NUL characters in texts are replaced by U+FFFD instead of rejected.
    """

    def __init__(
        self,
        model: type[BaseModel],
        *,
        example: Any,
        read: Callable[[JsonValue], Any] | None = None,
        max_bytes: int = MAX_SMALL_BODY_BYTES,
        is_optional: bool = False,
        is_strict: bool = False,
        replaces_nul: bool = False,
    ) -> None:
        super().__init__(model, example=example, is_optional=is_optional, replaces_nul=replaces_nul)
        self._read = read or functools.partial(read_model, model, is_strict=is_strict)
        self._max_bytes = max_bytes

    async def __call__(self, request: Request) -> Any:
        """Read the JSON body of a request, validate it by the model, and return the resulting object.

        Raises:
            UnsupportedMediaError: the body is not JSON, or is compressed.
            TooLargeError: the body is larger than `max_bytes`.
            InvalidInputError: the body is not valid JSON, or does not match the model.
            HTTPException: 408, the body did not arrive in time.
        """
        raw = await body_of_at_most(request, self._max_bytes)
        if self.is_optional and not raw:
            return self._read({})
        require_json(request)
        # Another thread, because a large body would block the event loop.
        return await run_in_threadpool(lambda: self._read(parse_json(replace_nul(raw) if self.replaces_nul else raw)))


def _with_whole_numbers(value: JsonValue) -> JsonValue:
    """Return a JSON value with every float without a fraction, such as 2.0, converted to an integer."""
    # JSON has one type for both.
    if isinstance(value, dict):
        return {key: _with_whole_numbers(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_with_whole_numbers(item) for item in value]
    return cast("JsonValue", whole(value))


def read_model(model: type[BaseModel], value: JsonValue, *, is_strict: bool = False) -> BaseModel:
    """Convert a parsed body to an object of the model.

    Args:
        model: the model.
        value: the parsed JSON of the body.
        is_strict: whether values must have the JSON types of the model, so that a number is not accepted for a boolean.

    Raises:
        InvalidInputError: the body is not valid; the error names the invalid fields, at most 20.
    """
    try:
        # Strict validation of Python objects would also reject the texts of enums, which JSON has no type for.
        return (
            model.model_validate_json(canonical_json(_with_whole_numbers(value)), strict=True)
            if is_strict
            else model.model_validate(value)
        )
    except ValidationError as error:
        problems = problems_in(error, value, root="body")
        raise InvalidInputError(f"{problems[0][0]}: {problems[0][1]}.", problems=problems) from error

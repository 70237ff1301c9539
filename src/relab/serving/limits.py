"""Limits that the HTTP server applies to each client before authentication, and responses to requests above a limit.

Pure functions.
"""

from __future__ import annotations

import http
import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from relab.serving.security_headers import HEADERS

HEALTH_PATHS: Final = frozenset({b"/healthz", b"/readyz"})
"""The paths of health checks, which reserved connections may request."""

BEGIN_STREAM: Final = "relab.begin_stream"
"""A key in the state of an ASGI scope. Its value is a function without arguments.

An endless response must call it before it starts; it returns False if the limit of event streams is reached.
"""


@dataclass(frozen=True, slots=True)
class HttpLimits:
    """The limits of one server. A request above a limit gets the stated HTTP status.

    Attributes:
        max_request_line_bytes: the largest size of a request target; above it 414.
        max_header_bytes: the largest total size of a request's header fields; above it 431. Trailers (fields after the
            body) have the same limit.
        max_headers: the largest number of header fields of a request; above it 431.
        header_timeout_s: the longest time from the first byte of a request to the end of its headers; then 408. A new
            connection without a byte is closed after this time.
        body_timeout_s: the longest time from the end of the headers to the end of the body; then 408.
        keep_alive_timeout_s: the time after which an idle connection is closed.
        stalled_reader_timeout_s: a connection is closed if response bytes wait to be sent and the client has read none
            for this time.
        max_pipelined_requests: the largest number of requests that may wait on one connection behind the current
            request; above it 400.
        max_connections: the largest number of open connections, without event streams and health checks.
        max_connections_per_client: the largest number of open connections from one address, without event streams and
            health checks.
        max_streams: the largest number of open event streams.
        max_health_connections: the largest number of connections that are accepted above the other limits. They may
            send health checks only.
    """

    max_request_line_bytes: int = 8_192
    max_header_bytes: int = 32_768
    max_headers: int = 100
    header_timeout_s: float = 10.0
    body_timeout_s: float = 60.0
    keep_alive_timeout_s: int = 30
    stalled_reader_timeout_s: float = 30.0
    max_pipelined_requests: int = 16
    max_connections: int = 4_096
    max_connections_per_client: int = 2_048
    max_streams: int = 4_096
    max_health_connections: int = 16


@dataclass(frozen=True, slots=True)
class Rejection:
    """The reason why the server rejects a request without calling the app.

    Attributes:
        status: the HTTP status.
        code: a stable code for programs, logs and metrics.
        detail: a sentence for people; it contains no text from the client.
    """

    status: int
    code: str
    detail: str


class RequestRejectedError(Exception):
    """Raised to end the parsing of a rejected request. `LimitedProtocol` always handles it."""

    def __init__(self, rejection: Rejection) -> None:
        super().__init__(rejection.detail)
        self.rejection = rejection


BAD_REQUEST: Final = Rejection(400, "bad_request", "The bytes are not a valid HTTP/1.1 request.")
HOST_MISSING: Final = Rejection(400, "bad_host", "An HTTP/1.1 request needs exactly one Host header.")
HOST_INVALID: Final = Rejection(400, "bad_host", "The Host header is not a host name or address with an optional port.")
HOST_DIFFERS: Final = Rejection(400, "bad_host", "The request target names another host than the Host header.")
BAD_TARGET: Final = Rejection(400, "bad_target", "The request target is not a path.")
BAD_FRAMING: Final = Rejection(400, "bad_framing", "HTTP/1.0 has no Transfer-Encoding.")
UNKNOWN_CODING: Final = Rejection(501, "unknown_transfer_coding", "The only transfer coding that is read is `chunked`.")
UNKNOWN_VERSION: Final = Rejection(505, "unknown_http_version", "The server speaks HTTP/1.1 and HTTP/1.0.")
HEADER_TIMEOUT: Final = Rejection(408, "header_timeout", "The request headers were not complete in time.")
BODY_TIMEOUT: Final = Rejection(408, "body_timeout", "The request body was not complete in time.")
TOO_MANY_CONNECTIONS: Final = Rejection(
    503, "too_many_connections", "Too many connections are open; this one answers health checks only. Try again later."
)
TOO_MANY_PIPELINED: Final = Rejection(400, "too_many_pipelined", "Too many requests wait for their responses.")


def target_too_long(limits: HttpLimits) -> Rejection:
    """Return the rejection (414) of a request whose target exceeds the limit."""
    return Rejection(
        414,
        "request_target_too_long",
        f"The request target is longer than {limits.max_request_line_bytes:,} bytes"
        " (RELAB_HTTP__MAX_REQUEST_LINE_BYTES).",
    )


def headers_too_large(limits: HttpLimits) -> Rejection:
    """Return the rejection (431) of a request whose header fields exceed the limits."""
    return Rejection(
        431,
        "headers_too_large",
        f"The request has more than {limits.max_headers:,} header fields (RELAB_HTTP__MAX_HEADERS),"
        f" or more than {limits.max_header_bytes:,} bytes of them (RELAB_HTTP__MAX_HEADER_BYTES).",
    )


def response_of(rejection: Rejection, default_headers: Iterable[tuple[bytes, bytes]] = ()) -> bytes:
    """Return the bytes of the complete HTTP response for a rejection; its body is a problem document.

    `default_headers` are placed before the other headers.
    """
    body = json.dumps(
        {
            "type": f"urn:relab:problem:{rejection.code}",
            "title": http.HTTPStatus(rejection.status).phrase,
            "status": rejection.status,
            "detail": rejection.detail,
            "errors": [],
        }
    ).encode()
    headers = [
        *default_headers,
        (b"content-type", b"application/problem+json"),
        (b"content-length", str(len(body)).encode()),
        (b"connection", b"close"),
        *((name.lower().encode(), value.encode()) for name, value in HEADERS.items()),
    ]
    if rejection.status == http.HTTPStatus.SERVICE_UNAVAILABLE:
        headers.append((b"retry-after", b"1"))
    status = f"HTTP/1.1 {rejection.status} {http.HTTPStatus(rejection.status).phrase}\r\n".encode()
    return b"".join([status, *(name + b": " + value + b"\r\n" for name, value in headers), b"\r\n", body])

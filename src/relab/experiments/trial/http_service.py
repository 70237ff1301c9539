"""A small HTTP server on a socket inside a trial's network, and a function that reads the bodies of requests."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from relab.experiments.trial.otlp_exports import MAX_BODY_BYTES

_READ_TIMEOUT_S = 30.0
_LINE_BYTES = 1_000
_LENGTH_DIGITS = 12

Answer = Callable[[BaseHTTPRequestHandler], None]
"""Reads one request and sends its response; may raise OSError if the client has closed the connection."""


class BodyTooLargeError(Exception):
    """The body of a request is larger than `MAX_BODY_BYTES`."""


class _Server(ThreadingHTTPServer):
    daemon_threads = False

    def __init__(self, *arguments: Any, **options: Any) -> None:
        self.connections: set[socket.socket] = set()
        super().__init__(*arguments, **options)

    def process_request(self, request: Any, client_address: Any) -> None:
        self.connections.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self.connections.discard(request)
        super().shutdown_request(request)


def serve(
    listening: socket.socket, answer: Answer, *, name: str, methods: tuple[str, ...], keep_alive: bool = False
) -> Callable[[], None]:
    """Answer requests on a listening socket in threads; return a function that stops the server.

    When the server is stopped, it answers complete requests, drops incomplete requests, and waits for all threads.

    Args:
        listening: the socket; the server closes it.
        answer: is called to answer one request.
        name: the name of the thread that accepts connections.
        methods: the HTTP methods that are answered; requests with other methods get 501.
        keep_alive: whether a connection may carry several requests (HTTP/1.1).
    """

    class Handler(BaseHTTPRequestHandler):
        timeout = _READ_TIMEOUT_S
        protocol_version = "HTTP/1.1" if keep_alive else "HTTP/1.0"

        def handle(self) -> None:
            # The client may have closed the connection.
            with contextlib.suppress(OSError):
                super().handle()

        def log_message(self, *_: Any) -> None:
            """Log nothing, because the requests of a harness are not events of the runner."""

    def respond(handler: BaseHTTPRequestHandler) -> None:
        answer(handler)

    for method in methods:
        setattr(Handler, f"do_{method}", respond)

    server = _Server(listening.getsockname(), Handler, bind_and_activate=False)
    server.socket.close()
    server.socket = listening
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, name=name)
    thread.start()

    def end() -> None:
        server.shutdown()
        thread.join()
        for connection in list(server.connections):
            with contextlib.suppress(OSError):
                # Received bytes can still be read after this; further bytes are not awaited.
                connection.shutdown(socket.SHUT_RD)
        server.server_close()

    return end


def read_body(request: BaseHTTPRequestHandler) -> bytes:
    """Read the body of a request.

    Raises:
        BodyTooLargeError: the body is larger than `MAX_BODY_BYTES`.
        ValueError, EOFError, OSError: the body has no valid length, or is incomplete.
    """
    if request.headers.get("Transfer-Encoding", "").strip().lower() == "chunked":
        return b"".join(_chunks(request))
    length = request.headers.get("Content-Length", "")
    if not length.isdecimal():
        raise ValueError("the request has no Content-Length")
    if len(length) > _LENGTH_DIGITS or int(length) > MAX_BODY_BYTES:
        raise BodyTooLargeError
    return _exactly(request, int(length))


def _chunks(request: BaseHTTPRequestHandler) -> Iterator[bytes]:
    """Yield the chunks of a body with chunked transfer coding (RFC 9112, section 7.1).

    Raises:
        BodyTooLargeError: the body is larger than `MAX_BODY_BYTES`.
        ValueError, EOFError: a chunk is not valid, or is incomplete.
    """
    total = 0
    while True:
        line = request.rfile.readline(_LINE_BYTES + 1)
        size = int(line.split(b";", 1)[0].strip(), 16)
        total += size
        if len(line) > _LINE_BYTES or size < 0:
            raise ValueError("a chunk has no size")
        if total > MAX_BODY_BYTES:
            raise BodyTooLargeError
        if size == 0:
            # An empty line ends the body; without reading it, the next request on the connection would begin with it.
            request.rfile.readline(_LINE_BYTES)
            return
        yield _exactly(request, size)
        if request.rfile.readline(_LINE_BYTES).strip():
            raise ValueError("a chunk is longer than its size")


def _exactly(request: BaseHTTPRequestHandler, length: int) -> bytes:
    body = request.rfile.read(length)
    if len(body) < length:
        raise EOFError(f"only {len(body):,} of {length:,} bytes arrived")
    return body

"""An OTLP/HTTP receiver that keeps the bodies of the requests in their order."""

from __future__ import annotations

import gzip
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

PROTOBUF = "application/x-protobuf"


@dataclass(frozen=True)
class Export:
    """One request of an exporter: the path (`/v1/traces`, `/v1/logs` or `/v1/metrics`) and its body in protobuf."""

    path: str
    body: bytes


@dataclass
class Received:
    """The requests that a receiver got from exporters.

    Attributes:
        url: the address of the receiver.
        exports: the valid requests, in their order.
        problems: messages about requests that were not OTLP in protobuf.
    """

    url: str
    exports: list[Export] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def do_POST(self) -> None:
        body = self._body()
        if self.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        received = self.server.received
        if self.headers["Content-Type"] == PROTOBUF and self.path in {"/v1/traces", "/v1/logs", "/v1/metrics"}:
            received.exports.append(Export(self.path, body))
        else:
            received.problems.append(f"{self.path} with the content type {self.headers['Content-Type']!r}")
        # In OTLP, an empty response means that everything was accepted.
        self.send_response(200)
        self.send_header("Content-Type", PROTOBUF)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers["Content-Length"]))
        chunks = []
        while size := int(self.rfile.readline().strip() or b"0", 16):
            chunks.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(chunks)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 the name is that of the base class
        """Print nothing."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.received = Received(f"http://127.0.0.1:{self.server_port}")


@contextmanager
def receiving() -> Iterator[Received]:
    """Receive telemetry while the `with` block runs, and yield the requests, to which new ones are added."""
    server = _Server()
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield server.received
    finally:
        server.shutdown()
        thread.join()
        server.server_close()

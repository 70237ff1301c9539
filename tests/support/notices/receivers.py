"""A receiver of notices on loopback, like Slack and PagerDuty: it stores requests and gives the configured answers."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

SECRET_PATH = "/services/T000/B000/XXXXXXXXXXXXXXXXXXXXXXXX"


@dataclass(frozen=True)
class Answer:
    """The answer to one request.

    Attributes:
        until: the receiver delays the response until this event is set.
    """

    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b"ok"
    until: threading.Event | None = None


@dataclass(frozen=True)
class Received:
    """A received request."""

    path: str
    key: str
    content_type: str
    cookie: str | None
    document: dict[str, Any]


class LoopbackReceiver:
    """The received requests, and the responses to the next ones.

    Attributes:
        received: all requests so far.
        answers: the responses to the next requests; later requests are answered with 200.
    """

    def __init__(self, port: int) -> None:
        self.port = port
        self.received: list[Received] = []
        self.answers: list[Answer] = []
        self._lock = threading.Lock()

    @property
    def url(self) -> str:
        """The URL, with a secret path like Slack's."""
        return f"http://127.0.0.1:{self.port}{SECRET_PATH}"

    @property
    def keys(self) -> list[str]:
        """The idempotency keys of the requests so far."""
        return [each.key for each in self.received]

    def take(self, request: Received) -> Answer:
        """Store a request and return its response."""
        with self._lock:
            self.received.append(request)
            return self.answers.pop(0) if self.answers else Answer()


@contextmanager
def loopback_receiver(*answers: Answer) -> Iterator[LoopbackReceiver]:
    """Run a receiver on loopback while the block runs."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            raw = self.rfile.read(int(self.headers["Content-Length"]))
            key, kind, cookie = (self.headers[name] for name in ("Idempotency-Key", "Content-Type", "Cookie"))
            answer = receiver.take(Received(self.path, key, kind, cookie, json.loads(raw)))
            if answer.until is not None:
                answer.until.wait(30)
            try:
                self.send_response(answer.status)
                for name, value in answer.headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(answer.body)))
                self.end_headers()
                self.wfile.write(answer.body)
            except ConnectionError:
                # The sender has timed out or was killed, as some tests intend.
                self.close_connection = True

        def log_message(self, *_: object) -> None:
            """Log nothing: the tests check the received requests."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    receiver = LoopbackReceiver(server.server_address[1])
    receiver.answers.extend(answers)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield receiver
    finally:
        for answer in answers:
            if answer.until is not None:
                answer.until.set()
        server.shutdown()
        thread.join()
        server.server_close()

"""Servers in this process that keep flags in the formats of common services."""

from __future__ import annotations

import json
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from typing import Any, NamedTuple, TypeVar

from relab.core.json import JsonValue


class FlagAnswer(NamedTuple):
    """The answer to a request: status, document (None: no body) and headers."""

    status: int
    document: JsonValue = None
    headers: Mapping[str, str] = {}


class FlagServer(ThreadingHTTPServer, ABC):
    """A server of flags on loopback; subclasses answer the requests.

    Attributes:
        failures: the statuses of the coming answers, by method. A request with such an answer is still processed if the
            status is negative, as by a proxy that lost the answer.
        ahead_s: by how many seconds the server's clock is ahead, in the header `Date`.
        with_age: whether answers have the header `Age`, as those of a cache.
    """

    ahead_s = 0.0
    with_age = False

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.failures: dict[str, list[int]] = {}

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    @abstractmethod
    def read(self) -> FlagAnswer:
        """Answer a GET request."""

    @abstractmethod
    def change(self, path: str, body: bytes, headers: Mapping[str, str]) -> FlagAnswer:
        """Answer a PUT or POST request."""


class _Handler(BaseHTTPRequestHandler):
    server: FlagServer

    def do_GET(self) -> None:
        self._send(self.server.read())

    def do_PUT(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if (self.server.failures.get(self.command) or [-1])[0] > 0:
            self._send(FlagAnswer(500))
            return
        self._send(self.server.change(self.path, body, self.headers))

    def do_POST(self) -> None:
        self.do_PUT()

    def date_time_string(self, timestamp: float | None = None) -> str:
        return super().date_time_string((timestamp or time.time()) + self.server.ahead_s)

    def _send(self, answer: FlagAnswer) -> None:
        failures = self.server.failures.get(self.command, [])
        answer = FlagAnswer(abs(failures.pop(0)), {"detail": "try again"}) if failures else answer
        body = b"" if answer.document is None else json.dumps(answer.document).encode()
        self.send_response(answer.status)
        if self.server.with_age:
            self.send_header("Age", "0")
        for name, value in answer.headers.items():
            self.send_header(name, value)
        if answer.status != 204:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_args: Any) -> None:
        """Print nothing."""


_Server = TypeVar("_Server", bound=FlagServer)


@contextmanager
def serving(server: _Server) -> Iterator[_Server]:
    """Serve during the block."""
    with server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


class LimitServer(FlagServer):
    """`PUT /limit/20` without a body or `PUT /limit` with a JSON number sets the limit, a real number.

    Attributes:
        limit: the limit.
        revision: the number of changes; the answer to a read has it in its `ETag`.
        weak: whether the `ETag` is weak.
        quoted: whether the `ETag` has the quotation marks of HTTP.
        untagged: the number of coming reads whose answers have no `ETag`.
        most_reads: the number of reads after which reads are rejected with 429.
        adapted: the limit that is stored in place of the next one; None stores the given limit.
        bodies: the bodies of all changes.
    """

    limit = 10.0
    revision = 1
    weak = False
    quoted = True
    untagged = 0
    most_reads = 1_000
    adapted: float | None = None

    def __init__(self) -> None:
        super().__init__()
        self.bodies: list[bytes] = []

    @property
    def flag_url(self) -> str:
        return f"{self.url}/limit"

    @property
    def tag(self) -> str:
        return ("W/" if self.weak else "") + f'"r{self.revision}"'

    def read(self) -> FlagAnswer:
        self.most_reads -= 1
        self.untagged -= 1
        tag = self.tag if self.quoted else self.tag.strip('"')
        return FlagAnswer(
            429 if self.most_reads < 0 else 200, {"limit": self.limit}, {} if self.untagged >= 0 else {"ETag": tag}
        )

    def change(self, path: str, body: bytes, headers: Mapping[str, str]) -> FlagAnswer:
        if headers.get("If-Match", self.tag) != self.tag:
            return FlagAnswer(412, {})
        self.bodies.append(body)
        wanted = float(path.rpartition("/")[2] if path != "/limit" else body)
        self.limit = wanted if self.adapted is None else self.adapted
        self.revision += 1
        return FlagAnswer(204)


class ProcessesServer(FlagServer):
    """A service whose processes each keep the flag in their own memory.

    Reads reach the processes in turn, and so do changes, independently of the reads. The flag is a number; subclasses
    give it another form.

    Attributes:
        values: the value of the flag in the memory of each process.
        most: the maximum value that a process stores in place of a greater one.
        reads: number of GET requests so far.
        on_read: is called with `reads` before each read is answered.
    """

    def __init__(self, values: list[int]) -> None:
        super().__init__()
        self.values = values
        self.most = 1_000
        self.reads = 0
        self.on_read: Callable[[int], None] = lambda _reads: None
        self._read_turns, self._change_turns = count(), count()
        self._lock = threading.Lock()

    @property
    def flag_url(self) -> str:
        return f"{self.url}/flag"

    def read(self) -> FlagAnswer:
        with self._lock:
            self.reads += 1
            self.on_read(self.reads)
            value = self.values[next(self._read_turns) % len(self.values)]
        return FlagAnswer(200, self.document(value))

    def change(self, path: str, body: bytes, headers: Mapping[str, str]) -> FlagAnswer:  # noqa: ARG002 the base's parameters
        with self._lock:
            self.values[next(self._change_turns) % len(self.values)] = min(self.wanted(json.loads(body)), self.most)
        return FlagAnswer(200, {})

    def document(self, value: int) -> JsonValue:
        """Return the answer of a process with this value to a read."""
        return {"value": value}

    def wanted(self, body: Any) -> int:
        """Return the value that the body of a change sets."""
        return int(body)


class DocumentProcessesServer(ProcessesServer):
    """A `ProcessesServer` whose flags are a document of `control` and `routing`; it changes `control.max_concurrency`.

    Attributes:
        applied: the field `applied` of the document, the versions of the workers; None for a document without it.
    """

    applied: dict[str, JsonValue] | None = None

    def document(self, value: int) -> JsonValue:
        flags: dict[str, JsonValue] = {"control": {"max_concurrency": value}, "routing": {}}
        return flags if self.applied is None else {**flags, "version": 1, "applied": self.applied}

    def wanted(self, body: Any) -> int:
        return int(body["control"]["max_concurrency"])

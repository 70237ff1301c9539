"""A small service with flags, health and a workload whose latency and errors depend on the flags, in this process."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from relab.core.errors import InvalidInputError
from relab.flags.models import ServiceFlags


@dataclass
class SmallService:
    """The state of the service.

    Attributes:
        flags: the `{control, routing}` document.
        version: the number of changes of the document.
        limit: the value of a second, single flag at `/limit`.
        limit_version: the number of changes of the limit.
        max_limit: a greater limit is accepted and reduced to this value; None does not reduce limits.
        unhealthy: dependencies that fail.
        forgets: whether the service accepts a change of flags without making it.
        unapplied_reads: number of reads after a change in which a worker still reports the earlier version.
        change_status: the response status for each change, which is then not made; None makes changes.
        delay_s: latency of a request, by the flags.
        fails: whether a request fails, by the flags.
        answer: answers a request of the workload in place of `delay_s` and `fails`: `(path) -> (delay in s, status)`.
        figures: answers `GET /figures`, with the path.
        documents: answers to `GET` of these paths: JSON, or a function of the path with its query.
        document_status: the status of these answers, by the path with its query.
        changes: every accepted change of the document, in order.
        report: the last report that was put.
        on_work: is called for each request of the workload.
        on_request: is called for each request of any kind, before it is answered.
    """

    flags: ServiceFlags = field(default_factory=ServiceFlags)
    version: int = 0
    limit: Any = 10
    limit_version: int = 0
    max_limit: int | None = None
    unhealthy: set[str] = field(default_factory=set)
    forgets: bool = False
    unapplied_reads: int = 0
    change_status: int | None = None
    delay_s: Callable[[ServiceFlags], float] = lambda _flags: 0.0
    fails: Callable[[ServiceFlags], bool] = lambda _flags: False
    answer: Callable[[str], tuple[float, int]] | None = None
    figures: Callable[[str], Any] = lambda _path: None
    documents: dict[str, Any] = field(default_factory=dict)
    document_status: Callable[[str], int] = lambda _path: 200
    changes: list[Any] = field(default_factory=list)
    report: Any = None
    on_work: Callable[[], None] = lambda: None
    on_request: Callable[[], None] = lambda: None
    url: str = ""
    lock: threading.Lock = field(default_factory=threading.Lock)
    headers: list[dict[str, str]] = field(default_factory=list)
    _pending_reads: int = 0

    def document(self) -> dict[str, Any]:
        """Return the response to `GET /api/flags`."""
        with self.lock:
            applied = self.version
            if self._pending_reads > 0:
                self._pending_reads -= 1
                applied -= 1
            return {
                "ok": True,
                **self.flags.model_dump(mode="json"),
                "version": self.version,
                "applied": {"1": self.version, "2": applied},
            }

    def change(self, document: Any, if_match: str | None) -> tuple[int, dict[str, Any]]:
        """Make a change of the document and return `(status, answer)`."""
        with self.lock:
            if self.change_status is not None:
                return self.change_status, {"detail": "told to"}
            if if_match not in {None, "*", f'"{self.version}"'}:
                return 412, {"detail": "another version"}
            try:
                changed = self.flags.updated(document)
            except InvalidInputError as error:
                return 422, {"detail": str(error)}
            if not self.forgets:
                self.flags = changed
            self.version += 1
            self._pending_reads = self.unapplied_reads
            self.changes.append(document)
            return 200, {"ok": True, **changed.model_dump(mode="json"), "version": self.version}

    def set_limit(self, body: Any, if_match: str | None) -> tuple[int, dict[str, Any]]:
        """Set the single flag and return `(status, answer)`; the answer to an accepted change is empty."""
        with self.lock:
            if self.change_status is not None:
                return self.change_status, {"detail": "told to"}
            if if_match not in {None, f'"{self.limit_version}"'}:
                return 412, {"detail": "another version"}
            if not isinstance(body, dict) or body.keys() != {"limits"}:
                return 422, {"detail": "needs limits"}
            if not self.forgets:
                wanted = body["limits"]["max"]
                self.limit = wanted if self.max_limit is None else min(wanted, self.max_limit)
            self.limit_version += 1
            return 204, None

    def read(self, target: str) -> tuple[int, Any]:
        """Return `(status, answer)` of a GET; an unknown path is a request of the workload."""
        path = target.partition("?")[0]
        if path in self.documents:
            found = self.documents[path]
            return self.document_status(target), found(target) if callable(found) else found
        if path == "/api/flags":
            return 200, self.document()
        if path == "/limit":
            return 200, {"state": {"max": self.limit}, "version": self.limit_version}
        if path == "/api/lab/config":
            return self.lab_config()
        if path == "/api/lab/report":
            return 200, self.report
        if path == "/figures":
            return 200, self.figures(target)
        return self.work(target)

    def work(self, target: str) -> tuple[int, Any]:
        """Answer a request of the workload."""
        self.on_work()
        flags = self.flags
        if self.answer is not None:
            delay_s, status = self.answer(target)
        else:
            delay_s, status = self.delay_s(flags), 500 if self.fails(flags) else 200
        time.sleep(delay_s)
        return status, {}

    def lab_config(self) -> tuple[int, dict[str, Any]]:
        """Return `(status, answer)` of `GET /api/lab/config`."""
        health = {name: {"ok": name not in self.unhealthy} for name in ("redis", "qdrant")}
        return 200, {"ok": not self.unhealthy, "health": health}


def _handler(service: SmallService) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def log_message(self, *_: Any) -> None:
            pass

        def _answer(self, status: int, document: Any) -> None:
            body = b"" if status == 204 else json.dumps(document).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            if status != 204:
                self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def do_GET(self) -> None:
            service.on_request()
            self._answer(*service.read(self.path))

        def _body(self) -> Any:
            return json.loads(self.rfile.read(int(self.headers["Content-Length"])))

        def do_POST(self) -> None:
            service.on_request()
            body = self._body()
            service.headers.append(dict(self.headers))
            self._answer(*service.change(body, self.headers.get("If-Match")))

        def do_PUT(self) -> None:
            service.on_request()
            body = self._body()
            if self.path == "/limit":
                self._answer(*service.set_limit(body, self.headers.get("If-Match")))
            else:
                service.report = body
                self._answer(200, {"ok": True})

    return Handler


@contextmanager
def small_service(**state: Any) -> Iterator[SmallService]:
    """Serve a `SmallService` on loopback during the block."""
    service = SmallService(**state)

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        request_queue_size = 256

    server = Server(("127.0.0.1", 0), _handler(service))
    service.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield service
    finally:
        server.shutdown()
        server.server_close()
        thread.join()

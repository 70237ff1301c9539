"""The tool server: the shop over HTTP on loopback, with a journal of its real answers.

The journal is the ground truth that the tour shows next to each report: the server writes it, independently of the
agent's records.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import groupby
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qsl, urlsplit

from demo.shop import Answer, Request, Shop

RUN_HEADER = "X-Agent-Run"
"""The header in which agents send the id of their run, so that the journal can be filtered by run."""

MAX_BODY_BYTES = 64 * 1024
SHORT_BODY = 24


@dataclass(frozen=True)
class Exchange:
    """One request and its answer; `status` is None if it got no answer."""

    agent_run_id: str
    method: str
    path: str
    status: int | None
    body: str = ""
    retry_after: str | None = None

    def outline(self) -> str:
        """Return a short description, such as `GET /parcels → 429, Retry-After: 60`; a short body is quoted."""
        answered = "no answer" if self.status is None else str(self.status)
        wait = "" if self.retry_after is None else f", Retry-After: {self.retry_after}"
        quote = f" {self.body}" if 0 < len(self.body) <= SHORT_BODY else ""
        return f"{self.method} {self.path} → {answered}{wait}{quote}"


class Journal:
    """All exchanges of the tool server, in the order in which they were added."""

    def __init__(self) -> None:
        self._exchanges: list[Exchange] = []
        self._lock = threading.Lock()

    def add(self, exchange: Exchange) -> None:
        """Append one exchange; thread-safe, because the threads of the server call it."""
        with self._lock:
            self._exchanges.append(exchange)

    def of(self, agent_run_id: str) -> list[Exchange]:
        """Return the exchanges of one run."""
        with self._lock:
            return [exchange for exchange in self._exchanges if exchange.agent_run_id == agent_run_id]

    def outline(self, agent_run_id: str) -> list[str]:
        """Return a description of the exchanges of one run, with one line per sequence of similar answers."""
        lines = []
        for outline, stretch in groupby(self.of(agent_run_id), key=Exchange.outline):
            bodies = [exchange.body for exchange in stretch]
            count = f", {len(bodies)} times" if len(bodies) > 1 else ""
            same = " the same" if count and len(set(bodies)) == 1 else ""
            lines.append(f"{outline}{count}{same}")
        return lines


class ToolServer:
    """The tool server on a free loopback port, in threads of this process.

    Use it as a context manager: it serves inside the `with` block; after the block, all its threads have ended,
    including those of requests that were never answered.
    """

    def __init__(self, shop: Shop | None = None) -> None:
        self.journal = Journal()
        self._closing = threading.Event()
        handler = partial(_Handler, shop or Shop(), self.journal, self._closing)
        self._http = _Http(("127.0.0.1", 0), handler)
        self._thread = threading.Thread(
            target=self._http.serve_forever, name="tool-server", kwargs={"poll_interval": 0.05}
        )

    @property
    def url(self) -> str:
        """The base URL of the server, without a slash at the end."""
        return f"http://127.0.0.1:{self._http.server_port}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._closing.set()
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()


class _Http(ThreadingHTTPServer):
    # Not daemonic, so that server_close() waits for the handlers; their idle time-out limits the wait.
    daemon_threads = False
    block_on_close = True


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 5.0
    # Without a buffer, headers and body are two packets, and delayed acknowledgement costs 40 ms per call.
    wbufsize = -1

    def __init__(self, shop: Shop, journal: Journal, closing: threading.Event, *connection: Any) -> None:
        self._shop = shop
        self._journal = journal
        self._closing = closing
        super().__init__(*connection)

    def do_GET(self) -> None:
        self._handle(dict(parse_qsl(urlsplit(self.path).query)))

    def do_POST(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        if length > MAX_BODY_BYTES:
            self.send_error(413)
            return
        try:
            body = json.loads(self.rfile.read(length))
        except ValueError:
            self.send_error(400, "The body is not JSON")
            return
        if not isinstance(body, dict):
            self.send_error(400, "The body is not a JSON object")
            return
        self._handle({str(name): str(value) for name, value in body.items()})

    def log_message(self, *_args: object, **_kwargs: object) -> None:
        """Print nothing, because the journal replaces the log."""

    def _handle(self, fields: Mapping[str, str]) -> None:
        path = urlsplit(self.path).path
        agent_run_id = self.headers.get(RUN_HEADER, "")
        api_key = self.headers.get("Authorization", "").removeprefix("Bearer ") or None
        answer = self._shop.answer(self.command, path, Request(fields, api_key))
        if not isinstance(answer, Answer):
            self._journal.add(Exchange(agent_run_id, self.command, path, None))
            self._closing.wait()
            self.close_connection = True
            return
        text = json.dumps(answer.body)
        retry_after = answer.headers.get("Retry-After")
        self._journal.add(Exchange(agent_run_id, self.command, path, answer.status, text, retry_after))
        self._send(answer, text.encode())

    def _send(self, answer: Answer, payload: bytes) -> None:
        self.send_response(answer.status)
        for name, value in {**answer.headers, "Content-Type": "application/json"}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(payload)))
        self.end_headers()
        self.wfile.write(payload)

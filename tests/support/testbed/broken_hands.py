"""A proxy of an action server whose actions all fail; all other requests go to the real server."""

from __future__ import annotations

import json
import threading
import time
import urllib.parse
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx

from relab.core.clock import format_time
from relab.core.ids import new_id

ERROR = "permission denied: the supervisor's socket cannot be written"


class _Server(ThreadingHTTPServer):
    def __init__(self, behind: str) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.behind = httpx.Client(base_url=behind, timeout=15, trust_env=False)
        self.records: list[dict[str, Any]] = []


class _Handler(BaseHTTPRequestHandler):
    server: _Server

    def do_GET(self) -> None:
        answer = self.server.behind.get(self.path, headers=self._headers())
        document = answer.json()
        if self.path.startswith("/records?"):
            document = {"records": [*self.server.records[::-1], *document.get("records", [])]}
        self._say(answer.status_code, document)

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        parts = urllib.parse.urlsplit(self.path)
        name = parts.path.removeprefix("/action/")
        if "dry_run=true" in parts.query or name == parts.path:
            answer = self.server.behind.post(self.path, content=body, headers=self._headers())
            self._say(answer.status_code, answer.json())
            return
        record = {
            "record_id": new_id(), "action": name, "actor": "responder", "target": "shop",
            "requested_at": format_time(time.time_ns() // 1_000), "status": "failed", "error": ERROR,
            "key": self.headers.get("Idempotency-Key"), "parameters": json.loads(body or b"{}"), "after": {},
        }  # fmt: skip
        self.server.records.append(record)
        self._say(502, {"record": record})

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 the name of the class above
        """Log nothing."""

    def _headers(self) -> dict[str, str]:
        return {name: self.headers[name] for name in ("Authorization", "Content-Type") if name in self.headers}

    def _say(self, status: int, document: Any) -> None:
        body = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        with suppress(ConnectionError):
            # A responder that stops closes the connection without waiting for the response.
            self.wfile.write(body)


@contextmanager
def broken_hands(behind: str) -> Iterator[str]:
    """Yield the URL of a server that fails all actions and passes other requests to the server at `behind`."""
    server = _Server(behind)
    thread = threading.Thread(target=server.serve_forever, name="broken hands")
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        server.behind.close()
        thread.join()

"""A healthy target over HTTP, and its responses."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from relab.core.clock import format_time


class _Handler(BaseHTTPRequestHandler):
    answers: Callable[[], dict[str, Any]]

    def do_GET(self) -> None:
        told = type(self).answers().get(self.path.partition("?")[0])
        body = json.dumps(told if told is not None else {"detail": "there is none"}).encode()
        self.send_response(404 if told is None else 200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        with suppress(ConnectionError):
            # A responder that stops closes the connection without waiting for the response.
            self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 the name of the class above
        """Log nothing."""


def _answers() -> dict[str, Any]:
    now = format_time(time.time_ns() // 1_000)
    return {
        "/api/v1/health": {"timestamp": now, "health_status": "healthy", "error_rate": 0.0},
        "/api/v1/metrics": {
            "timestamp": now, "error_rate": 0.0, "p95_ms": 12.0, "requests": 100, "requests_per_second": 50.0,
        },
        "/api/v1/pool/status": {"timestamp": now, "pool_health": "healthy", "utilization_pct": 10.0},
        "/api/v1/logs": {"logs": [], "cursor": "0"},
    }  # fmt: skip


@contextmanager
def a_well_target() -> Iterator[str]:
    """Yield the URL of a healthy target."""
    with a_target(_answers) as url:
        yield url


@contextmanager
def a_target(answers: Callable[[], dict[str, Any]]) -> Iterator[str]:
    """Yield the URL of a target that answers each path with a JSON document, and other paths with 404."""
    handler = type("Handler", (_Handler,), {"answers": staticmethod(answers)})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, name="target")
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()

"""The HTTP server of a simple responder: `GET /agent/status`, and nothing else."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class State:
    """The status that a simple responder reports.

    Attributes:
        polls: number of the responder's polls so far.
        incident: the open incident with its `id` and `phase`; None if no incident is open.
    """

    polls: int = 0
    incident: dict[str, Any] | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the body of the status page, `{"polls": ..., "incident": ...}`."""
        return {"polls": self.polls, "incident": self.incident}


@contextmanager
def status_page(state: State) -> Iterator[None]:
    """Serve the status in `state` over HTTP, on the port in the environment variable `PORT`, until the block ends."""

    class StatusPageHandler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = json.dumps(state.to_json()).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 the base class calls it so
            """Suppress the request log of `http.server`."""

    with ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), StatusPageHandler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield
        finally:
            server.shutdown()

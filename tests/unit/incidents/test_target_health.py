"""The health of a target, as `lab doctor` shows it."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from relab.core.errors import UnavailableError
from relab.incidents.surroundings import health_of


@contextmanager
def target(answer: object) -> Iterator[str]:
    """Yield the address of a service that answers every GET with this JSON."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(json.dumps(answer).encode())

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 the base class names it so
            """Write nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def test_health_is_the_field_that_the_responder_polls() -> None:
    with target({"health_status": "degraded", "status": "ok"}) as url:
        assert health_of(url) == "degraded"


@pytest.mark.parametrize("answer", [{"status": "ok"}, {"health_status": 1}, [], None])
def test_answer_without_health_is_an_error_with_a_remedy(answer: object) -> None:
    with target(answer) as url, pytest.raises(UnavailableError, match="health_status") as error:
        health_of(url)
    assert "TARGET_API_BASE_URL" in str(error.value.remedy)

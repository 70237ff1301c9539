"""A webhook to which the measured responder posts its notices to people; it records the arrival time of each."""

from __future__ import annotations

import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Final, Self

_MAX_NOTICES: Final = 10_000
_MAX_BYTES: Final = 1 << 20
_READ_TIMEOUT_S: Final = 5.0


class NoticeReceiver:
    """A webhook that counts each POST with a body of at most 1 MiB as one notice to people.

    Use it as a context manager.

    Args:
        now: returns the seconds since the responder was ready.

    Attributes:
        times_s: arrival times of the first 10,000 notices, in seconds after the responder was ready.
    """

    def __init__(self, now: Callable[[], float]) -> None:
        self.times_s: list[float] = []
        times_s = self.times_s

        class NoticeHandler(BaseHTTPRequestHandler):
            timeout = _READ_TIMEOUT_S

            def do_POST(self) -> None:
                length = self.headers.get("Content-Length", "0")
                if not length.isdecimal() or int(length) > _MAX_BYTES:
                    self.send_error(413)
                    return
                self.rfile.read(int(length))
                if len(times_s) < _MAX_NOTICES:
                    times_s.append(now())
                self.send_response(200)
                self.send_header("Content-Length", "2")
                self.end_headers()
                self.wfile.write(b"ok")

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 the base class names it so
                """Suppress the request log of `http.server`."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), NoticeHandler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, name="notices", daemon=True)

    @property
    def url(self) -> str:
        """The address to which the responder posts its notices to people."""
        return f"http://127.0.0.1:{self._server.server_address[1]}/notices"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

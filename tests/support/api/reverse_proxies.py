"""A small reverse proxy on loopback: a process of the same machine in front of `lab serve`."""

from __future__ import annotations

import http.client
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

Headers = list[tuple[str, str]]
Rewrite = Callable[[str, Headers], Headers]
"""Maps the client's address and its headers to the headers that the proxy forwards."""

_HOP_BY_HOP = {"connection", "host", "keep-alive", "transfer-encoding"}


def silent(_client: str, headers: Headers) -> Headers:
    """Add no header and forward the client's headers: nginx without a `proxy_set_header` line."""
    return headers


def appending(client: str, headers: Headers) -> Headers:
    """Append the client to X-Forwarded-For: nginx with `$proxy_add_x_forwarded_for`, Caddy, Traefik."""
    before = [value for name, value in headers if name.lower() == "x-forwarded-for"]
    kept = [(name, value) for name, value in headers if name.lower() != "x-forwarded-for"]
    return [*kept, ("X-Forwarded-For", ", ".join([*before, client]))]


def adding(name: str, value: str) -> Rewrite:
    """Return a rewrite that adds one header for every client."""
    return lambda _client, headers: [*headers, (name, value)]


@contextmanager
def reverse_proxy(upstream: int, rewrite: Rewrite) -> Iterator[str]:
    """Run a proxy in front of a port of this machine while the block runs, and yield its base URL."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            connection = http.client.HTTPConnection("127.0.0.1", upstream, timeout=30)
            connection.putrequest("GET", self.path, skip_host=True, skip_accept_encoding=True)
            # Like nginx, the proxy sends the upstream's address as Host instead of the client's.
            connection.putheader("Host", f"127.0.0.1:{upstream}")
            sent = [(name, value) for name, value in self.headers.items() if name.lower() not in _HOP_BY_HOP]
            for name, value in rewrite(self.client_address[0], sent):
                connection.putheader(name, value)
            connection.endheaders()
            answer = connection.getresponse()
            body = answer.read()
            self.send_response(answer.status)
            self.send_header("Content-Type", answer.headers["Content-Type"])
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)
            connection.close()

        def log_message(self, *_: object) -> None:
            """Print nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()

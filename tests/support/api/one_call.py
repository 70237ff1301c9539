"""A test client that runs each request in one call of the app's event loop.

Starlette's client calls the loop, which runs in another thread, seven times or more per request, because its caller may
read a response while the app writes it. Most tests read complete responses.
"""

from __future__ import annotations

import asyncio
from typing import Any, Self
from urllib.parse import unquote

from fastapi import FastAPI
from starlette import testclient
from starlette.types import Message, Scope

# The HTTP library that Starlette's client uses, `httpx2` or `httpx`.
_httpx: Any = vars(testclient)["httpx"]
_IS_STREAMED = "is_streamed"


class OneCallClient(testclient.TestClient):
    """Starlette's test client, except that the app finishes a request before the client returns the response.

    Exceptions of the app are raised in the test. Streamed responses (`client.stream(...)`), WebSockets and clients
    outside of a `with` block use Starlette's transport.
    """

    def __init__(self, app: FastAPI, *, client: tuple[str, int], **options: Any) -> None:
        super().__init__(app, client=client, **options)
        self.loop: asyncio.AbstractEventLoop | None = None
        # Starlette's client passes no transport of its caller on.
        self._transport = _OneCallTransport(self, client)

    def __enter__(self) -> Self:
        """Start the app in an event loop of another thread."""
        super().__enter__()
        assert self.portal is not None
        self.loop = self.portal.call(asyncio.get_running_loop)
        return self

    def __exit__(self, *args: object) -> None:
        """Stop the app and its event loop."""
        self.loop = None
        super().__exit__(*args)

    def send(self, request: Any, *, stream: bool = False, **options: Any) -> Any:
        """Send a request; with `stream`, return the response before the app has finished it."""
        request.extensions = {**request.extensions, _IS_STREAMED: stream}
        return super().send(request, stream=stream, **options)


class _OneCallTransport(testclient._TestClientTransport):
    def __init__(self, owner: OneCallClient, client: tuple[str, int]) -> None:
        super().__init__(owner.app, owner._portal_factory, client=client, app_state=owner.app_state)
        self._owner = owner

    def handle_request(self, request: Any) -> Any:
        loop = self._owner.loop
        if loop is None or request.extensions[_IS_STREAMED] or request.url.scheme not in {"http", "https"}:
            return super().handle_request(request)
        exchange = _Exchange(request)
        running = asyncio.run_coroutine_threadsafe(self._run(exchange, request), loop)
        try:
            running.result()
        finally:
            running.cancel()
        return exchange.response()

    async def _run(self, exchange: _Exchange, request: Any) -> None:
        await self.app(self._scope(request), exchange.receive, exchange.send)

    def _scope(self, request: Any) -> Scope:
        url = request.url
        return {
            "type": "http",
            "http_version": "1.1",
            "method": request.method,
            "path": unquote(url.path),
            "raw_path": url.raw_path.split(b"?", 1)[0],
            "root_path": self.root_path,
            "scheme": url.scheme,
            "query_string": url.query,
            "headers": [(name.lower().encode(), value.encode()) for name, value in request.headers.multi_items()],
            "client": self.client,
            "server": [url.raw_host.decode("ascii"), url.port or {"http": 80, "https": 443}[url.scheme]],
            "extensions": {},
            "state": self.app_state.copy(),
        }


class _Exchange:
    """One request and its response as ASGI messages; asserts that the app sends them in the order of the protocol."""

    def __init__(self, request: Any) -> None:
        self._request = request
        self._is_sent = False
        self._start: Message | None = None
        self._parts: list[bytes] = []
        self._complete = asyncio.Event()

    async def receive(self) -> Message:
        """Return the whole body; then wait for the end of the response and return the disconnection of the client."""
        if not self._is_sent:
            self._is_sent = True
            return {"type": "http.request", "body": self._request.read()}
        await self._complete.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        """Keep a message of the response."""
        if message["type"] == "http.response.start":
            assert self._start is None, "the app started the response twice"
            self._start = message
            return
        assert message["type"] == "http.response.body", message["type"]
        assert self._start is not None, "the app sent a body before it started the response"
        assert not self._complete.is_set(), "the app sent a body after the end of the response"
        self._parts.append(bytes(message.get("body", b"")))
        if not message.get("more_body", False):
            self._complete.set()

    def response(self) -> Any:
        """Return the complete response."""
        assert self._start is not None, "the app sent no response"
        headers = [(name.decode(), value.decode()) for name, value in self._start.get("headers", [])]
        body = b"" if self._request.method == "HEAD" else b"".join(self._parts)
        return _httpx.Response(
            self._start["status"], headers=headers, stream=_httpx.ByteStream(body), request=self._request
        )

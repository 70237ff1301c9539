"""ASGI middleware: request ids, logs and metrics of requests, and the size limit of bodies."""

from __future__ import annotations

import re
import time
from collections.abc import Awaitable, Callable, Iterable
from urllib.parse import quote

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from relab.access.models import Source
from relab.core.ids import new_id
from relab.core.logging import bound_contextvars, get_logger
from relab.http.compression import body_too_large
from relab.http.metrics import HttpMetrics
from relab.http.problems import problem_response

REQUEST_ID_HEADER = "X-Request-ID"
SourceOf = Callable[[str | None, Iterable[tuple[str, str]]], Source]
_SAFE_REQUEST_ID = re.compile(r"[A-Za-z0-9._:-]{1,100}")

_log = get_logger("relab.api")


class RequestContextMiddleware:
    """Stores an id and the source of each request in the request's state; counts and logs the request when it ends.

    The id is the value of the header `X-Request-ID` if this value is safe to log; otherwise a new id is created. The
    source (`Source`) is the client's address, with a remark if the request came through a proxy.

    Args:
        app: the ASGI app that handles the request.
        metrics: counts the requests.
        source_of: returns the source of a request. Its arguments are the address of the other end of the connection
            (None if unknown), and the headers.
    """

    def __init__(self, app: ASGIApp, metrics: HttpMetrics, source_of: SourceOf) -> None:
        self._app = app
        self._metrics = metrics
        self._source_of = source_of

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass an ASGI connection on to the app.

        For HTTP, store the request's id and its source (such as the client's address) in the state of the request, and
        count and log the request.
        """
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        given = headers.get(REQUEST_ID_HEADER, "")
        request_id = given if _SAFE_REQUEST_ID.fullmatch(given) else new_id()
        peer = scope.get("client")
        source = self._source_of(peer[0] if peer else None, headers.items())
        scope.setdefault("state", {}).update(request_id=request_id, source=source)
        status = 500
        started = time.perf_counter()

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message)[REQUEST_ID_HEADER] = request_id
            await send(message)

        with bound_contextvars(request_id=request_id):
            try:
                await self._app(scope, receive, send_with_id)
            finally:
                seconds = time.perf_counter() - started
                route = getattr(scope.get("route"), "path", "unmatched")
                self._metrics.observe(scope["method"], route, status, seconds)
                _log.info(
                    "request",
                    method=scope["method"],
                    # Quoted, because a path may contain control characters of a terminal.
                    path=quote(scope["path"]),
                    client=source.client,
                    status=status,
                    ms=round(seconds * 1_000, 1),
                )


class BodyLimitMiddleware:
    """Rejects bodies larger than `max_bytes`.

    If the declared length is larger, the body is not read. Otherwise the bytes are counted while the body arrives.
    """

    def __init__(self, app: ASGIApp, max_bytes: int) -> None:
        self._app = app
        self._max_bytes = max_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass an ASGI connection on to the app, or answer 413 if its declared body is too large.

        If a larger body arrives than declared, reading it raises `TooLargeError` in the app.
        """
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        declared = Headers(scope=scope).get("content-length", "")
        # Check the number of digits first, because Python refuses to convert very long numbers.
        if declared.isascii() and declared.isdigit() and (len(declared) > 18 or int(declared) > self._max_bytes):
            await self._reject(scope, receive, send)
            return
        await self._app(scope, self._limited(receive), send)

    def _limited(self, receive: Receive) -> Callable[[], Awaitable[Message]]:
        taken = 0

        async def limited() -> Message:
            nonlocal taken
            message = await receive()
            if message["type"] == "http.request":
                taken += len(message.get("body", b""))
                if taken > self._max_bytes:
                    raise body_too_large(self._max_bytes)
            return message

        return limited

    async def _reject(self, scope: Scope, receive: Receive, send: Send) -> None:
        error = body_too_large(self._max_bytes)
        # The rest of the body is not read, so the connection cannot be used again.
        response = problem_response(Request(scope), 413, error.code, str(error), headers={"Connection": "close"})
        await response(scope, receive, send)

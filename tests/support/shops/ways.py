"""A transport from a responder to its action server that can delay, lose or change any request."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable

import httpx

GoOn = Callable[[], Awaitable[httpx.Response]]
Meet = Callable[[httpx.Request, GoOn], Awaitable[httpx.Response]]
"""A hook that handles a request; `go_on` passes the request to the server."""


def is_act(request: httpx.Request) -> bool:
    """Return whether a request executes an action."""
    return (
        request.method == "POST"
        and request.url.path.startswith("/action/")
        and "dry_run" not in request.url.query.decode()
    )


def is_undo(request: httpx.Request) -> bool:
    """Return whether a request undoes an action."""
    return request.method == "POST" and request.url.path.endswith("/undo")


def is_dry_run(request: httpx.Request) -> bool:
    """Return whether a request is a dry run of an action."""
    return request.url.path.startswith("/action/") and "dry_run" in request.url.query.decode()


def is_record_list(request: httpx.Request) -> bool:
    """Return whether a request reads the records of all clients' actions."""
    return request.method == "GET" and request.url.path == "/records"


def is_switch(request: httpx.Request) -> bool:
    """Return whether a request reads the server's kill switch, which is one of the last requests before an action."""
    return request.url.path == "/kill-switch"


def key_of(request: httpx.Request) -> str:
    """Return the `Idempotency-Key` of a request."""
    found: str = request.headers.get("Idempotency-Key", "")
    return found


class Way(httpx.AsyncBaseTransport):
    """Passes requests to an application in this process.

    Attributes:
        meet: the hook for each request; None for no hook.
        acts, undos: the received requests that execute or undo an action.
    """

    def __init__(self, app: object, meet: Meet | None = None) -> None:
        self._inner = httpx.ASGITransport(app)  # type: ignore[arg-type]
        self.meet = meet
        self.acts: list[httpx.Request] = []
        self.undos: list[httpx.Request] = []

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Pass a request to the hook, or to the application without a hook."""
        if is_act(request):
            self.acts.append(request)
        if is_undo(request):
            self.undos.append(request)
        if self.meet is None:
            return await self._inner.handle_async_request(request)
        return await self.meet(request, lambda: self._inner.handle_async_request(request))

    @property
    def keys(self) -> list[str]:
        """The idempotency keys of the requested actions, in order."""
        return [key_of(request) for request in self.acts]


def at(
    which: Callable[[httpx.Request], bool],
    number: int,
    do: Callable[[], object],
    *,
    then: Callable[[httpx.Request, GoOn], Awaitable[httpx.Response]] | None = None,
) -> Meet:
    """Return a hook that calls `do` at the `number`-th request of a kind; `then` handles that request."""
    seen = 0

    async def meet(request: httpx.Request, go_on: GoOn) -> httpx.Response:
        nonlocal seen
        if not which(request):
            return await go_on()
        seen += 1
        if seen != number:
            return await go_on()
        do()
        return await (go_on() if then is None else then(request, go_on))

    return meet


async def cut(_request: httpx.Request, go_on: GoOn) -> httpx.Response:
    """Pass the request to the server, and lose the response."""
    await go_on()
    raise httpx.ReadError("the connection broke")


async def lost(_request: httpx.Request, _go_on: GoOn) -> httpx.Response:
    """Lose the request, so that its result is unknown."""
    raise httpx.ReadError("the connection broke")


def said(status: int, document: object, **headers: str) -> httpx.Response:
    """Return a response as from a network; a document that is not bytes is encoded as JSON."""
    raw = document if isinstance(document, bytes) else json.dumps(document).encode()
    return httpx.Response(status, headers=headers, stream=httpx.ByteStream(raw))


async def lie(request: httpx.Request, _go_on: GoOn) -> httpx.Response:
    """Respond that the action succeeded, without executing it."""
    record = {
        "record_id": "none", "action": request.url.path.rpartition("/")[2], "actor": "responder", "target": "a",
        "requested_at": "2026-01-01T00:00:00Z", "status": "succeeded", "key": key_of(request),
    }  # fmt: skip
    return said(200, {"ok": True, "record": record})


def lose_everything_from_the_first_act() -> Meet:
    """Return a hook that loses all requests from the first action on."""
    is_silent = False

    async def meet(request: httpx.Request, go_on: GoOn) -> httpx.Response:
        nonlocal is_silent
        is_silent = is_silent or is_act(request)
        if is_silent:
            raise httpx.ReadError("the connection broke")
        return await go_on()

    return meet

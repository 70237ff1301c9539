"""Flow control in front of the shop: count every request, let some in, turn the rest away before any work is done.

Most of an overload is turned away by `DoorProtocol`, as soon as a request's headers are read: no task, no application,
one write. Under three times its capacity a worker turns away twice what it answers, so this must cost next to nothing.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from typing import Any, Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from relab.testbed.target.limiter import Bounds, Limiter
from relab.testbed.target.recorder import Recorder

QUEUE_PER_SLOT: Final = 4
"""So that fewer at work mean fewer who wait: whoever lowers the limit has those he takes on answered sooner."""

_REFUSAL = b'{"detail":"Service temporarily unavailable: too many requests at work."}'
_REFUSAL_START: Message = {
    "type": "http.response.start",
    "status": 503,
    "headers": [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(_REFUSAL)).encode()),
        (b"retry-after", b"1"),
    ],
}
_REFUSAL_BODY: Message = {"type": "http.response.body", "body": _REFUSAL}
_REFUSAL_LINES = b"".join(
    [b"HTTP/1.1 503 Service Unavailable\r\n", *(b"%s: %s\r\n" % pair for pair in _REFUSAL_START["headers"])]
)
_REFUSAL_ALIVE = _REFUSAL_LINES + b"\r\n" + _REFUSAL
_REFUSAL_LAST = _REFUSAL_LINES + b"connection: close\r\n\r\n" + _REFUSAL


def route_of(method: str, path: str) -> str | None:
    """Return the route of a request to the shop, or None for what operators ask, which is never limited."""
    if not path.startswith("/api/v1/"):
        return None
    rest = path[8:]
    if rest.startswith("products/"):
        return "product"
    if rest == "search":
        return "search"
    if rest == "orders":
        return "place_order" if method == "POST" else "order"
    if rest.startswith("orders/"):
        return "order"
    return None


class Gate:
    """The limiter of a worker and the requests that wait for their turn; used by the event loop alone.

    Attributes:
        limiter: how many may be at work.
        loop_lag_ms: how late the event loop runs; a request has waited as long before anybody saw it.
    """

    def __init__(self, bounds: Bounds) -> None:
        self.limiter = Limiter(bounds, now_s=time.monotonic())
        self.loop_lag_ms = 0.0
        self._waiting: deque[asyncio.Future[bool]] = deque()

    @property
    def waiting(self) -> int:
        """How many requests wait for their turn."""
        return len(self._waiting)

    def change(self, bounds: Bounds) -> None:
        """Take new bounds, and let in those who wait as far as these allow."""
        self.limiter.change(bounds, now_s=time.monotonic())
        self._wake()

    @property
    def is_shut(self) -> bool:
        """Whether a request that comes now need not even wait."""
        limit, waiting = self.limiter.limit, len(self._waiting)
        return limit is not None and (waiting >= limit * QUEUE_PER_SLOT or self.limiter.is_too_late(waiting))

    async def enter(self) -> bool:
        """Return whether the request may begin, at once or after a bounded wait."""
        # Whoever waits already comes first.
        if not self._waiting and self.limiter.start():
            return True
        if self.is_shut:
            return False
        loop = asyncio.get_running_loop()
        turn: asyncio.Future[bool] = loop.create_future()
        self._waiting.append(turn)
        timer = loop.call_later(self.limiter.bounds.wait_ms / 1_000, _give_up, turn)
        try:
            return await turn
        except asyncio.CancelledError:
            # The turn may have come in the same moment; nobody would end it.
            if turn.done() and not turn.cancelled() and turn.result():
                self.leave(0.0)
            raise
        finally:
            timer.cancel()
            if turn in self._waiting:
                self._waiting.remove(turn)

    def leave(self, elapsed_ms: float) -> None:
        """End a request that began; its time, and that in which the loop did not see it, moves the limit."""
        self.limiter.finish(elapsed_ms + self.loop_lag_ms, now_s=time.monotonic())
        self._wake()

    def _wake(self) -> None:
        while self._waiting:
            turn = self._waiting[0]
            if turn.done():
                self._waiting.popleft()
                continue
            if not self.limiter.start():
                return
            self._waiting.popleft()
            turn.set_result(True)


class FlowControl:
    """The middleware: times and counts requests to the shop, and refuses what the gate does not let in."""

    def __init__(self, app: ASGIApp, *, gate: Gate, recorder: Recorder) -> None:
        self._app = app
        self._gate = gate
        self._recorder = recorder

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        route = route_of(scope["method"], scope["path"]) if scope["type"] == "http" else None
        if route is None:
            await self._app(scope, receive, send)
            return
        came_s = time.perf_counter()
        if not await self._gate.enter():
            await send(_REFUSAL_START)
            await send(_REFUSAL_BODY)
            self._recorder.request(route, 503, (time.perf_counter() - came_s) * 1_000, shed=True)
            return
        began_s = time.perf_counter()
        status = 500

        async def watch(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, watch)
        finally:
            ended_s = time.perf_counter()
            self._gate.leave((ended_s - began_s) * 1_000)
            self._recorder.request(route, status, (ended_s - came_s) * 1_000)


class DoorProtocol(HttpToolsProtocol):
    """HTTP as the server speaks it, but for requests that come while the gate is shut: their answer is written at once.

    Args:
        gate, recorder: of the worker.
        given: what the server gives to every protocol.
    """

    def __init__(self, *, gate: Gate, recorder: Recorder, **given: Any) -> None:
        super().__init__(**given)
        self._gate = gate
        self._recorder = recorder
        self._refused = False

    def connection_lost(self, exc: Exception | None) -> None:
        """Count a request whose client did not wait for the answer."""
        cycle: Any = self.cycle
        if cycle is not None and not cycle.response_complete:
            self._recorder.event("abandoned")
        super().connection_lost(exc)

    def on_headers_complete(self) -> None:
        """Refuse the request, or let the server go on with it."""
        self._refused = False
        # One that comes before the answer to an earlier one is the server's: answers keep their order.
        before: Any = self.cycle
        if self._gate.is_shut and (before is None or before.response_complete):
            path, _, _ = self.url.partition(b"?")
            route = route_of(self.parser.get_method().decode("ascii"), path.decode("latin-1"))
            if route is not None:
                self._refuse(route)
                return
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Take a part of a body; that of a refused request is nobody's."""
        if not self._refused:
            super().on_body(body)

    def on_message_complete(self) -> None:
        """End a request; a refused one has been answered."""
        if not self._refused:
            super().on_message_complete()

    def _refuse(self, route: str) -> None:
        self._refused = True
        # Who waits to be told to go on with a body is told no, and whether the body comes then is not known.
        is_alive = self.parser.should_keep_alive() and not self.expect_100_continue
        self.transport.write(_REFUSAL_ALIVE if is_alive else _REFUSAL_LAST)
        self._recorder.request(route, 503, 0.0, shed=True)
        if is_alive:
            self.on_response_complete()
        else:
            self.transport.close()


def _give_up(turn: asyncio.Future[bool]) -> None:
    if not turn.done():
        turn.set_result(False)

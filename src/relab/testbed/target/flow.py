"""Flow control in front of the shop: count every request, admit some, and reject the rest before any work is done.

In an overload, `DoorProtocol` rejects most requests as soon as their headers are read. It creates no task, does not
call the application, and answers with one write. A rejection must be very cheap: under a load of three times its
capacity, a worker rejects twice as many requests as it answers.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from typing import Any, Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from relab.testbed.target.limiter import Bounds, Limiter
from relab.testbed.target.recorder import WorkerRecorder

QUEUE_PER_SLOT: Final = 4
"""Maximum length of the queue, as a multiple of the concurrency limit. A lower limit thus also means shorter waits."""

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
    """Return the name of the shop's route for a request: `product`, `search`, `place_order` or `order`.

    Return None for all other requests, such as requests of operators.
    """
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


class AdmissionQueue:
    """Decides when a request to a worker may start: limits the active requests, and queues further requests.

    It is not thread-safe: use it in the event loop only.

    Args:
        bounds: the first bounds of the active requests and of the wait in the queue, from the flags.

    Attributes:
        limiter: limits the number of active requests.
        loop_lag_ms: how late the event loop runs its timers at present, in ms; the owner of the queue sets it.
    """

    def __init__(self, bounds: Bounds) -> None:
        self.limiter = Limiter(bounds, now_s=time.monotonic())
        self.loop_lag_ms = 0.0
        self._waiting: deque[asyncio.Future[bool]] = deque()

    @property
    def waiting(self) -> int:
        """The number of requests in the queue."""
        return len(self._waiting)

    def change(self, bounds: Bounds) -> None:
        """Replace the bounds when the flags have changed, and admit waiting requests if the new bounds allow it."""
        self.limiter.change(bounds, now_s=time.monotonic())
        self._wake()

    @property
    def is_shut(self) -> bool:
        """Whether a new request must be rejected at once: the queue is full, or the expected wait is too long."""
        limit, waiting = self.limiter.limit, len(self._waiting)
        return limit is not None and (waiting >= limit * QUEUE_PER_SLOT or self.limiter.is_too_late(waiting))

    async def enter(self) -> bool:
        """Wait, for a limited time, until a new request may start; return whether it is admitted.

        If this returns True, the caller must call `leave` when the request has ended.
        """
        # Requests in the queue come first.
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
            # The slot may have been granted in the same moment; then it must be freed here.
            if turn.done() and not turn.cancelled() and turn.result():
                self.leave(0.0)
            raise
        finally:
            timer.cancel()
            if turn in self._waiting:
                self._waiting.remove(turn)

    def leave(self, elapsed_ms: float) -> None:
        """Record that an admitted request has ended, and admit waiting requests.

        `elapsed_ms` is the time from the admission of the request to its end.
        """
        # A request waits about as long as the lag before the event loop reads it.
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
    """The ASGI middleware that times and counts requests to the shop, and rejects some of them.

    A rejected request is answered with 503 and `Retry-After`.

    Args:
        app: the ASGI application that handles admitted requests.
        gate: the worker's admission queue, which admits or rejects each request.
        recorder: counts requests by route and status.
    """

    def __init__(self, app: ASGIApp, *, gate: AdmissionQueue, recorder: WorkerRecorder) -> None:
        self._app = app
        self._gate = gate
        self._recorder = recorder

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request: pass it to the application, or reject it."""
        route = route_of(scope["method"], scope["path"]) if scope["type"] == "http" else None
        if route is None:
            await self._app(scope, receive, send)
            return
        arrived_s = time.perf_counter()
        if not await self._gate.enter():
            await send(_REFUSAL_START)
            await send(_REFUSAL_BODY)
            self._recorder.request(route, 503, (time.perf_counter() - arrived_s) * 1_000, shed=True)
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
            self._recorder.request(route, status, (ended_s - arrived_s) * 1_000)


class DoorProtocol(HttpToolsProtocol):
    """uvicorn's HTTP protocol, which also rejects requests to the shop at once while the admission queue is shut.

    Args:
        gate: the worker's admission queue, which admits or rejects each request.
        recorder: the worker's counters, which also count the rejected requests.
        given: the arguments that uvicorn passes to every protocol object.
    """

    def __init__(self, *, gate: AdmissionQueue, recorder: WorkerRecorder, **given: Any) -> None:
        super().__init__(**given)
        self._gate = gate
        self._recorder = recorder
        self._refused = False

    def connection_lost(self, exc: Exception | None) -> None:
        """Count a request as abandoned if its client disconnected before the answer was complete."""
        cycle: Any = self.cycle
        if cycle is not None and not cycle.response_complete:
            self._recorder.event("abandoned")
        super().connection_lost(exc)

    def on_headers_complete(self) -> None:
        """Reject a request to the shop with status 503 if the admission queue takes no new requests (`is_shut`).

        Let uvicorn handle all other requests. Exception: if an earlier request on the connection is unanswered, uvicorn
        handles this one too, so that the answers stay in order.
        """
        self._refused = False
        # While an earlier request on this connection is unanswered, the server handles this one, to keep the order.
        before: Any = self.cycle
        if self._gate.is_shut and (before is None or before.response_complete):
            path, _, _ = self.url.partition(b"?")
            route = route_of(self.parser.get_method().decode("ascii"), path.decode("latin-1"))
            if route is not None:
                self._refuse(route)
                return
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Let uvicorn handle a part of a request's body; discard the part if the request was rejected."""
        if not self._refused:
            super().on_body(body)

    def on_message_complete(self) -> None:
        """Let uvicorn handle the end of a request; do nothing for a request that was rejected."""
        if not self._refused:
            super().on_message_complete()

    def _refuse(self, route: str) -> None:
        self._refused = True
        # A client that sent `Expect: 100-continue` may or may not send its body after a rejection, so close its
        # connection.
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

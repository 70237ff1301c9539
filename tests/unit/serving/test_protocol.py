"""Limits of one HTTP connection: they measure the client, not the server, and an ended stream no longer counts."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest
import uvicorn
from uvicorn.server import ServerState

from relab.serving.connections import Admission, Connections
from relab.serving.limits import BEGIN_STREAM, HttpLimits
from relab.serving.protocol import LimitedProtocol

LIMITS = HttpLimits(header_timeout_s=10, body_timeout_s=60, max_streams=1)
SLOW = b"GET /slow HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
STREAM = b"GET /stream HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
FAST = b"GET /fast HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
POST = b"POST /fast HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 5\r\n\r\n"


class MovableLoop(asyncio.SelectorEventLoop):
    """An event loop whose time a test moves forward."""

    ahead_s = 0.0

    def time(self) -> float:
        return super().time() + self.ahead_s


class FakeTransport(asyncio.Transport):
    """A transport that keeps what was written, and never fills its buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self.is_read = True
        self.is_closed = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written += data

    def pause_reading(self) -> None:
        self.is_read = False

    def resume_reading(self) -> None:
        self.is_read = True

    def get_write_buffer_size(self) -> int:
        return 0

    def can_write_eof(self) -> bool:
        return False

    def is_closing(self) -> bool:
        return self.is_closed

    def close(self) -> None:
        self.is_closed = True

    def abort(self) -> None:
        self.is_closed = True


class Served:
    """A connection to an app that answers `/slow` after `let_go` is set, and other paths at once.

    `/stream` is an event stream that ends at once; above the limit of streams, its status is 503.
    """

    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, MovableLoop)
        self._loop = loop
        self.let_go = asyncio.Event()
        self.transport = FakeTransport()
        config = uvicorn.Config(
            self._app, http=LimitedProtocol, interface="asgi3", log_config=None, timeout_keep_alive=10_000
        )
        self.protocol = LimitedProtocol(
            config,
            ServerState(),
            {},
            connections=Connections(LIMITS, capacity=100),
            client="127.0.0.1",
            admission=Admission.FULL,
        )
        self.protocol.connection_made(self.transport)

    async def _app(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["path"] == "/slow":
            await self.let_go.wait()
        while (await receive()).get("more_body"):
            pass
        is_rejected = scope["path"] == "/stream" and not scope["state"][BEGIN_STREAM]()
        await send({"type": "http.response.start", "status": 503 if is_rejected else 204, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    async def receive(self, data: bytes) -> None:
        self.protocol.data_received(data)
        await self.settle()

    async def settle(self) -> None:
        for _ in range(20):
            await asyncio.sleep(0)

    def pass_time(self, seconds: float) -> None:
        self._loop.ahead_s += seconds
        self.protocol.check(self._loop.time())

    @property
    def answers(self) -> list[bytes]:
        return [part[:3] for part in self.transport.written.split(b"HTTP/1.1 ")[1:]]


def run(test: Coroutine[Any, Any, None]) -> None:
    with asyncio.Runner(loop_factory=MovableLoop) as runner:
        runner.run(test)


@pytest.mark.parametrize(
    ("first_part", "rest", "limit_s"),
    [(FAST[:20], FAST[20:], 10), (POST + b"{", b"    ", 65)],
    ids=["head", "body"],
)
def test_time_limit_excludes_the_time_in_which_the_server_does_not_read(
    first_part: bytes, rest: bytes, limit_s: float
) -> None:
    async def test() -> None:
        served = Served()
        await served.receive(SLOW + FAST + first_part)
        assert not served.transport.is_read
        served.pass_time(10_000)
        served.let_go.set()
        await served.settle()
        assert served.transport.is_read
        served.pass_time(limit_s - 1)
        await served.receive(rest)

        assert served.answers == [b"204", b"204", b"204"]

    run(test())


def test_client_that_stops_after_the_server_reads_again_exceeds_the_limit() -> None:
    async def test() -> None:
        served = Served()
        await served.receive(SLOW + FAST + FAST[:20])
        served.pass_time(10_000)
        served.let_go.set()
        await served.settle()
        served.pass_time(11)

        assert served.answers == [b"204", b"204", b"408"]

    run(test())


def test_connection_may_request_another_event_stream_after_one_has_ended() -> None:
    async def test() -> None:
        served = Served()
        await served.receive(STREAM)
        await served.receive(STREAM)

        assert served.answers == [b"204", b"204"]

    run(test())

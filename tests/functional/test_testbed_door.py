"""Early rejection: requests that arrive while the gate is full are answered before the application sees them."""

from __future__ import annotations

import asyncio
import functools
import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPResponse

import uvicorn
from starlette.types import Receive, Scope, Send

from relab.flags.models import ControlFlags
from relab.testbed.target.flow import AdmissionQueue, DoorProtocol, FlowControl
from relab.testbed.target.limiter import Bounds
from relab.testbed.target.recorder import WorkerRecorder
from rig.waiting import wait_until

ORDER = b'{"product_id": 1}'
SEARCH = b"GET /api/v1/search HTTP/1.1\r\nhost: localhost\r\n\r\n"


@dataclass
class Shop:
    """An application whose searches block until they are released, behind a gate that admits one request."""

    recorder: WorkerRecorder
    gate: AdmissionQueue
    port: int = 0
    asked: list[str] = field(default_factory=list)
    release: threading.Event = field(default_factory=threading.Event)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.asked.append(scope["path"])
        await receive()
        if scope["path"] == "/api/v1/search":
            await asyncio.to_thread(self.release.wait, 30)
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
        await send({"type": "http.response.body", "body": b"ok"})

    def shed(self) -> int:
        return sum(counts.shed for counts in self.recorder.totals.routes.values())


@contextmanager
def full_shop() -> Iterator[Shop]:
    """Yield a shop that runs one search, whose expected duration is too long for another request to wait."""
    flags = ControlFlags(policy="fixed", max_concurrency=1, target_p95_ms=400.0)
    gate = AdmissionQueue(Bounds.of(flags, workers=1))
    shop = Shop(WorkerRecorder(window_s=5, clock=time.monotonic), gate)
    # The gate expects the duration of the requests that have ended.
    assert gate.limiter.start()
    gate.leave(10_000.0)
    config = uvicorn.Config(
        FlowControl(shop, gate=gate, recorder=shop.recorder),
        http=functools.partial(DoorProtocol, gate=gate, recorder=shop.recorder),  # type: ignore[arg-type]
        lifespan="off", log_config=None, timeout_graceful_shutdown=1,
    )  # fmt: skip
    server = uvicorn.Server(config)
    listening = socket.create_server(("127.0.0.1", 0))
    shop.port = listening.getsockname()[1]
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()
    try:
        with socket.create_connection(("127.0.0.1", shop.port), timeout=10) as first:
            first.sendall(SEARCH)
            wait_until(lambda: shop.asked, what="a search at work")
            yield shop
            shop.release.set()
            assert first.recv(100).startswith(b"HTTP/1.1 200")
    finally:
        shop.release.set()
        server.should_exit = True
        thread.join()
        listening.close()


def ask(line: HTTPConnection, method: str, path: str, body: bytes | None = None) -> tuple[HTTPResponse, bytes]:
    line.request(method, path, body=body)
    answer = line.getresponse()
    return answer, answer.read()


def test_rejected_client_gets_retry_after_on_a_connection_that_stays_open() -> None:
    with full_shop() as shop:
        line = HTTPConnection("127.0.0.1", shop.port, timeout=10)
        for number in range(1, 4):
            answer, told = ask(line, "GET", "/api/v1/products/1")

            assert answer.status == 503
            assert answer.headers["retry-after"] == "1"
            assert "too many requests" in json.loads(told)["detail"]
            assert shop.shed() == number
        assert shop.asked == ["/api/v1/search"]

        shop.release.set()
        wait_until(lambda: shop.gate.limiter.active == 0, what="the end of the search")
        assert ask(line, "GET", "/api/v1/products/1")[0].status == 200
        line.close()


def test_body_of_a_rejected_order_is_not_read_as_the_next_request() -> None:
    with full_shop() as shop:
        line = HTTPConnection("127.0.0.1", shop.port, timeout=10)

        assert [ask(line, "POST", "/api/v1/orders", ORDER)[0].status for _ in range(3)] == [503, 503, 503]
        line.close()


def test_operators_are_answered_while_the_gate_is_shut() -> None:
    with full_shop() as shop:
        line = HTTPConnection("127.0.0.1", shop.port, timeout=10)

        assert ask(line, "GET", "/api/v1/health")[0].status == 200
        assert ask(line, "GET", "/api/v1/orders")[0].status == 503
        line.close()


def test_expect_continue_is_rejected_and_the_connection_closed() -> None:
    with full_shop() as shop, socket.create_connection(("127.0.0.1", shop.port), timeout=10) as line:
        line.sendall(
            b"POST /api/v1/orders HTTP/1.1\r\nhost: localhost\r\ncontent-length: 17\r\nexpect: 100-continue\r\n\r\n"
        )
        with line.makefile("rb") as answer:
            told = answer.read()

    assert told.startswith(b"HTTP/1.1 503")
    assert b"connection: close" in told


def test_requests_that_are_sent_together_are_answered_in_order() -> None:
    with full_shop() as shop, socket.create_connection(("127.0.0.1", shop.port), timeout=10) as line:
        health = b"GET /api/v1/health HTTP/1.1\r\nhost: localhost\r\n\r\n"
        line.sendall(health + SEARCH.replace(b"\r\n\r\n", b"\r\nconnection: close\r\n\r\n"))
        with line.makefile("rb") as answers:
            told = answers.read()

    assert [part[:3] for part in told.split(b"HTTP/1.1 ")[1:]] == [b"200", b"503"]

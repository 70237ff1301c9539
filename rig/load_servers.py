"""An HTTP server with known delays, stalls and failures, which records the time of each answer.

As a process: `python -m rig.load_servers OPTIONS_AS_JSON` prints its port. The path of a request determines the answer:

    /ok /status/503 /flaky/2 (503 twice for each `n`) /reset /hang /cut /garbage

Every request may have its number as `?n=` (else its number is that of its arrival). `/truth` returns the records.
"""

from __future__ import annotations

import asyncio
import json
import socket
import struct
import sys
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.client import HTTPConnection
from typing import Any
from urllib.parse import parse_qs, urlsplit

from relab.load.arrivals import arrival_offsets_ns
from relab.load.models import LoadPlan, LoadResult
from rig.children import child, read_line


@dataclass(frozen=True)
class Behaviour:
    """The delays and stalls of a server.

    Attributes:
        delays_ms: the delays of the answers: request n gets the delay at position n modulo their number.
        stall_at: the numbers, counted from 1 by arrival, of the requests at whose arrival the whole server stops.
        stall_ms: time for which it stops.
    """

    delays_ms: tuple[float, ...] = (0.0,)
    stall_at: tuple[int, ...] = ()
    stall_ms: float = 300.0


@dataclass
class Truth:
    """A server's own records of its requests, with which the figures of a load generator can be compared.

    Attributes:
        rows: `(n, path, arrived_ns, answered_ns)` of each request by the wall clock, in the order of arrival;
            `answered_ns` is 0 for a request without an answer.
        stalls: `(from_ns, until_ns)` of each stall of the server.
        connections: number of connections that were accepted.
        most_open: maximum number of connections that were open at one time.
    """

    rows: list[list[Any]] = field(default_factory=list)
    stalls: list[list[int]] = field(default_factory=list)
    connections: int = 0
    most_open: int = 0

    def latencies_ms(self, plan: LoadPlan, result: LoadResult) -> list[float]:
        """Return the sorted latencies of the answered requests of a load, each from its due time to its answer.

        Args:
            plan: the plan of the load, from which the due times follow.
            result: the result of the load, which has its start.
        """
        due_ns = list(arrival_offsets_ns(plan.stages, plan.arrivals, plan.seed))
        start_ns = result.started_at * 1_000
        return sorted((row[3] - start_ns - due_ns[row[0]]) / 1e6 for row in self.rows if row[3])

    def injected_ms(self, plan: LoadPlan, result: LoadResult, delays_ms: Sequence[float]) -> list[float]:
        """Return the sorted latencies that requests sent exactly at their due times would have had.

        They consist only of the server's delays and stalls.

        Args:
            plan: the plan of the load, from which the due times follow.
            result: the result of the load, which has its start.
            delays_ms: the delays of the server, as in `Behaviour`.
        """
        start_ns = result.started_at * 1_000
        found = []
        for number, due_ns in enumerate(arrival_offsets_ns(plan.stages, plan.arrivals, plan.seed)):
            at_ns = start_ns + due_ns
            stalled_ns = next((until - at_ns for since, until in self.stalls if since <= at_ns < until), 0)
            found.append(stalled_ns / 1e6 + delays_ms[number % len(delays_ms)])
        return sorted(found)


class _Server:
    def __init__(self, behaviour: Behaviour) -> None:
        self.behaviour = behaviour
        self.truth = Truth()
        self.open = 0
        self.tries: Counter[int] = Counter()


class _Connection(asyncio.Protocol):
    def __init__(self, server: _Server) -> None:
        self._server = server
        self._received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        truth = self._server.truth
        truth.connections += 1
        self._server.open += 1
        truth.most_open = max(truth.most_open, self._server.open)

    def connection_lost(self, _: Exception | None) -> None:
        self._server.open -= 1

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, end, rest = self._received.partition(b"\r\n\r\n")
        if not end:
            return
        length = next(
            (int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")), 0
        )
        if len(rest) < length:
            return
        self._received = b""
        self._take(head.split(b" ", 2)[1].decode())

    def _take(self, target: str) -> None:
        parts = urlsplit(target)
        if parts.path == "/truth":
            self._write(200, json.dumps(self._server.truth.__dict__).encode())
            return
        truth, behaviour = self._server.truth, self._server.behaviour
        number = int(parse_qs(parts.query).get("n", [len(truth.rows)])[0])
        row = [number, parts.path, time.time_ns(), 0]
        truth.rows.append(row)
        if len(truth.rows) in behaviour.stall_at:
            from_ns = time.time_ns()
            # The blocked event loop writes no answer and accepts no connection meanwhile.
            time.sleep(behaviour.stall_ms / 1_000)
            truth.stalls.append([from_ns, time.time_ns()])
        delay_ms = behaviour.delays_ms[number % len(behaviour.delays_ms)]
        if delay_ms:
            asyncio.get_running_loop().call_later(delay_ms / 1_000, self._answer, parts.path, row)
        else:
            self._answer(parts.path, row)

    def _answer(self, path: str, row: list[Any]) -> None:
        kind, _, detail = path.removeprefix("/").partition("/")
        if self._transport.is_closing() or kind == "hang":
            return
        if kind == "reset":
            # Closing a socket with a linger time of 0 sends a reset.
            found = self._transport.get_extra_info("socket")
            found.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self._transport.abort()
        elif kind == "cut":
            self._transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf")
            self._transport.close()
        elif kind == "garbage":
            self._transport.write(b"this is no HTTP\r\n\r\n")
            self._transport.close()
        else:
            status = int(detail) if kind == "status" else 200
            if kind == "flaky":
                self._server.tries[row[0]] += 1
                status = 503 if self._server.tries[row[0]] <= int(detail) else 200
            row[3] = time.time_ns()
            self._write(status, b"ok")

    def _write(self, status: int, body: bytes) -> None:
        self._transport.write(b"HTTP/1.1 %d X\r\nContent-Length: %d\r\n\r\n%s" % (status, len(body), body))


async def _serve(behaviour: Behaviour) -> None:
    server = _Server(behaviour)
    loop = asyncio.get_running_loop()
    listening = await loop.create_server(lambda: _Connection(server), "127.0.0.1", 0, backlog=4_096)
    print(listening.sockets[0].getsockname()[1], flush=True)
    await listening.serve_forever()


@dataclass(frozen=True)
class KnownServer:
    """A running server with known behaviour: its URL and the id of its process."""

    url: str
    pid: int

    def truth(self) -> Truth:
        """Request and return the server's records so far."""
        with urllib.request.urlopen(f"{self.url}/truth", timeout=30) as answer:
            return Truth(**json.loads(answer.read()))


@contextmanager
def known_server(behaviour: Behaviour | None = None) -> Iterator[KnownServer]:
    """Run a server with this behaviour (default: no delays or stalls) in its own process while the block runs."""
    options = json.dumps((behaviour or Behaviour()).__dict__)
    with child("rig.load_servers", options) as process:
        yield KnownServer(f"http://127.0.0.1:{int(read_line(process))}", process.pid)


def closed_loop_ms(server: KnownServer, *, connections: int, requests: int) -> list[float]:
    """Load a server with a closed loop: each connection sends a request when its last one is answered.

    Return the latencies of all requests, from sending to the answer, in ms and sorted.

    Args:
        server: the server.
        connections: number of connections.
        requests: total number of requests.
    """
    address = urlsplit(server.url)
    latencies: list[float] = []
    numbers = iter(range(requests))
    lock = threading.Lock()

    def work() -> None:
        connection = HTTPConnection(str(address.hostname), address.port, timeout=30)
        while True:
            with lock:
                number = next(numbers, None)
            if number is None:
                break
            started = time.perf_counter()
            connection.request("GET", f"/ok?n={number}")
            connection.getresponse().read()
            latencies.append((time.perf_counter() - started) * 1_000)
        connection.close()

    workers = [threading.Thread(target=work) for _ in range(connections)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return sorted(latencies)


if __name__ == "__main__":
    given = json.loads(sys.argv[1])
    asyncio.run(
        _serve(Behaviour(tuple(given["delays_ms"]), tuple(given["stall_at"]), given["stall_ms"])),
    )

"""API servers that ingest parts of the same traces concurrently, and a full server that rejects requests early."""

from __future__ import annotations

import random
import socket
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from rig.servers import PostgresServer
from rig.waiting import wait_until
from support.lab.installation import Installation, Lab
from support.lab.process import LabProcess
from support.otlp.traces import (
    AGENT,
    CHAT,
    CONTENT_TYPES,
    PATH,
    TOOL,
    Trace,
    assert_refused,
    assert_stored,
    assert_taken,
    encode,
    post,
    stored_spans,
)

pytestmark = pytest.mark.full
SERVERS = 4
TRACES = [Trace(f"shared {number}") for number in range(40)]
SPANS_PER_TRACE = 24
SPANS_PER_REQUEST = 48
CENTURY_H = 24 * 365 * 100


def spans_of(trace: Trace) -> tuple[list[Span], list[Span]]:
    """Return the final spans of a trace, and unfinished versions of some of them."""
    number = TRACES.index(trace)
    base_ms = 90_000.0 * number  # runs start in different minutes, and hours
    final = [trace.span("root", None, AGENT, start_ms=base_ms, end_ms=base_ms + 500)]
    for step in range(SPANS_PER_TRACE - 1):
        start_ms = base_ms + 10 * step
        role = (CHAT | {"gen_ai.usage.input_tokens": step, "gen_ai.usage.cost": 0.125}, TOOL, {"db.system": "x"})[
            step % 3
        ]
        broken: dict[str, Any] = {"status": 2, "message": "it broke"} if step % 5 == 1 else {}
        parent = "root" if step < 3 else f"s{step - 3}"
        final.append(trace.span(f"s{step}", parent, role, start_ms=start_ms, end_ms=start_ms + 7 + step, **broken))
    early = []
    for span in final[::4]:
        begun = Span()
        begun.CopyFrom(span)
        for field in ("end_time_unix_nano", "status", "attributes"):
            begun.ClearField(field)
        early.append(begun)
    return final, early


@pytest.fixture(scope="module")
def servers(
    tmp_path_factory: pytest.TempPathFactory, postgres: PostgresServer
) -> Iterator[tuple[Installation, list[LabProcess]]]:
    """Four API servers on one PostgreSQL, without workers."""
    installation = Installation.on_postgres(tmp_path_factory.mktemp("lab"), postgres, None)
    with ExitStack() as stack:
        processes = [installation.serve("--workers", "0") for _ in range(SERVERS)]
        for process in processes:
            stack.callback(process.destroy)
            process.start(wait=False)
        for process in processes:
            process.wait_ready()
        yield installation, processes


def shares() -> list[list[list[Span]]]:
    """Return the requests for each server: parts of nearly all traces, and many spans for two servers."""
    choice = random.Random(20_260_503)
    sent: list[list[Span]] = [[] for _ in range(SERVERS)]
    for trace in TRACES:
        final, early = spans_of(trace)
        for span in [*final, *early]:
            for server in choice.sample(range(SERVERS), choice.choice((1, 1, 2))):
                sent[server].append(span)
    for spans in sent:
        choice.shuffle(spans)
    return [
        [spans[start : start + SPANS_PER_REQUEST] for start in range(0, len(spans), SPANS_PER_REQUEST)]
        for spans in sent
    ]


def send_all(process: LabProcess, requests: Sequence[list[Span]]) -> list[httpx.Response]:
    with process.client() as client:
        return [post(client, encode(spans)) for spans in requests]


def what_is_seen(lab: Lab) -> list[Any]:
    """Return all that the API shows of all traces, except for the times of receipt and update."""
    found: list[Any] = []
    for trace in TRACES:
        run = lab.get(f"/agent-runs/{trace.id}")
        found.append({name: value for name, value in run.items() if name not in {"received_at", "updated_at"}})
        found.append(lab.get(f"/agent-runs/{trace.id}/timeline"))
        spans = stored_spans(lab.http, trace)
        found.append([{**span, "attributes": sorted(span.get("attributes", ()), key=str)} for span in spans])
    return [*found, lab.get("/metrics/overview", hours=CENTURY_H)]


@pytest.mark.full
def test_four_servers_make_the_same_runs_of_shared_traces_as_one_server(
    servers: tuple[Installation, list[LabProcess]], tmp_path: Path
) -> None:
    installation, processes = servers
    with ThreadPoolExecutor(2 * SERVERS) as threads:
        # Two connections to each server, so that it has batches to form.
        ends = [
            threads.submit(send_all, process, requests[half::2])
            for process, requests in zip(processes, shares(), strict=True)
            for half in (0, 1)
        ]
        answers = [answer for end in ends for answer in end.result()]

    for answer in answers:
        assert assert_taken(answer) == (0, "")
    for process in processes:
        for sign in ("deadlock", "batch_split", "trace_refused", "Traceback", "request_failed"):
            assert sign not in process.log()
    stored = installation.query("SELECT trace_id, span_id FROM spans")
    assert len(stored) == len(set(stored)) == len(TRACES) * SPANS_PER_TRACE
    with Lab(installation, processes[0]) as lab:
        shared = what_is_seen(lab)

    # One server on SQLite, with one request per trace in order, must show exactly the same.
    alone = Installation.on_sqlite(tmp_path)
    with alone.serve("--workers", "0") as server, Lab(alone, server) as lab:
        for trace in TRACES:
            assert assert_taken(post(lab.http, encode(spans_of(trace)[0]))) == (0, "")
        assert what_is_seen(lab) == shared


def test_concurrent_requests_with_the_same_traces_do_not_deadlock(
    servers: tuple[Installation, list[LabProcess]],
) -> None:
    installation, processes = servers
    for round_number in range(5):
        # All servers get the same spans of new traces at once, each in a different order; then the other spans.
        traces = [Trace(f"circle {round_number} {number}") for number in range(60)]
        for part in (slice(0, 2), slice(2, 3)):
            with ThreadPoolExecutor(SERVERS) as threads:
                ends = []
                for number, process in enumerate(processes):
                    order = random.Random(number).sample(traces, len(traces))
                    spans = [span for trace in order for span in trace.good()[part]]
                    ends.append(threads.submit(send_all, process, [spans]))
                assert [assert_taken(answer) for end in ends for answer in end.result()] == [(0, "")] * SERVERS
    for process in processes:
        assert process.stop() == 0
        assert "deadlock" not in process.log()
    # Backends of PostgreSQL report their statistics when they end.
    own = "FROM pg_stat_database WHERE datname = current_database()"
    wait_until(lambda: installation.query(f"SELECT numbackends {own}") == [(1,)], what="the end of all connections")
    assert installation.query(f"SELECT deadlocks {own}") == [(0,)]


def test_full_server_rejects_before_the_body_is_sent(tmp_path: Path) -> None:
    installation = Installation.on_sqlite(tmp_path, RELAB_HTTP__MAX_CONCURRENT_INGESTS="1")
    slow, eager = Trace("slow"), Trace("eager")
    with installation.serve("--workers", "0") as server, Lab(installation, server) as lab:
        body = encode(slow.good())
        with connection(server) as taken:
            taken.sendall(head(len(body)) + body[:20])
            wait_until(lambda: "relab_ingest_requests 1.0" in lab.http.get("/metrics").text, what="the slow request")
            for expect in ("Expect: 100-continue\r\n", ""):
                with connection(server) as refused:
                    # Only the head: a rejected client need not send the body.
                    refused.sendall(head(10_000_000, expect))
                    assert_refused(read_answer(refused), 429, "protobuf")
            taken.sendall(body[20:])
            assert assert_taken(read_answer(taken)) == (0, "")
        assert_stored(lab.http, slow)
        with connection(server) as asking:
            body = encode(eager.good())
            asking.sendall(head(len(body), "Expect: 100-continue\r\n"))
            assert asking.recv(1_000).startswith(b"HTTP/1.1 100 ")
            asking.sendall(body)
            assert assert_taken(read_answer(asking)) == (0, "")
        assert_stored(lab.http, eager)


def connection(server: LabProcess) -> socket.socket:
    assert server.port is not None
    return socket.create_connection(("127.0.0.1", server.port), timeout=30)


def head(length: int, more: str = "") -> bytes:
    """Return the head of a request with a body of `length` bytes."""
    return (
        f"POST {PATH} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {CONTENT_TYPES['protobuf']}\r\n"
        f"Content-Length: {length}\r\n{more}\r\n"
    ).encode()


def read_answer(client: socket.socket) -> httpx.Response:
    """Read one response from a connection."""
    raw = bytearray()
    while b"\r\n\r\n" not in raw:
        part = client.recv(10_000)
        assert part, "the server hung up"
        raw += part
    first, *lines = bytes(raw).partition(b"\r\n\r\n")[0].decode().split("\r\n")
    headers = dict(line.lower().split(": ", 1) for line in lines)
    content = bytes(raw).partition(b"\r\n\r\n")[2]
    while len(content) < int(headers["content-length"]):
        content += client.recv(10_000)
    return httpx.Response(int(first.split()[1]), headers=headers, content=content)

"""Limits of OTLP exports: size, compression, time and concurrency; and clients that disconnect."""

from __future__ import annotations

import asyncio
import gzip
import threading
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
import structlog

from relab.bootstrap import Services, build
from relab.server import create_app
from support.api.asgi import RawRequest
from support.otlp.traces import (
    CHAT,
    CONTENT_TYPES,
    ENCODINGS,
    PATH,
    Encoding,
    Trace,
    assert_refused,
    assert_taken,
    encode,
)
from support.telemetry.runs import minimal_run

MB = 1_048_576
LIMIT = 20_000
ROOM = 3 * LIMIT
GZIP = (b"content-encoding", b"gzip")


@pytest.fixture
def services(make_services: Callable[..., Services]) -> Services:
    """An installation with small limits: 20,000 bytes per body, two bodies at once, 60,000 bytes in total."""
    return make_services(
        http={"max_body_mb": LIMIT / MB, "max_concurrent_ingests": 2, "max_concurrent_ingest_mb": ROOM / MB},
    )


@asynccontextmanager
async def running_app(services: Services) -> AsyncIterator[Any]:
    app = create_app(build(services.settings))
    async with app.router.lifespan_context(app):
        yield app


def against(services: Services, scenario: Callable[[Any], Coroutine[Any, Any, None]]) -> None:
    """Run the scenario against the app of these services."""

    async def run() -> None:
        async with running_app(services) as app:
            await scenario(app)

    asyncio.run(run())


def export(
    app: Any,
    *parts: bytes,
    encoding: Encoding = "protobuf",
    headers: tuple[tuple[bytes, bytes], ...] = (),
    declared: int | None = None,
    finished: bool = True,
) -> RawRequest:
    """Start to post an export in parts, with or without a Content-Length, and return the request."""
    length = () if declared is None else ((b"content-length", str(declared).encode()),)
    content_type = (b"content-type", CONTENT_TYPES[encoding].encode())
    given = [content_type, *length, *headers]
    return RawRequest(app, PATH, method="POST", headers=given, body=parts, finished=finished)


def answer_of(request: RawRequest) -> httpx.Response:
    """Return the response in the form that a client receives."""
    return httpx.Response(request.status, headers=request.headers, content=b"".join(request.chunks))


def body(name: str, size: int = 0, encoding: Encoding = "protobuf") -> bytes:
    """Return a valid export, of exactly `size` bytes unless `size` is 0."""
    trace = Trace(name)
    padding = size // 2
    while True:
        made = encode([*trace.good(), trace.span("pad", "root", CHAT | {"pad": "x" * padding})], encoding)
        if not size or len(made) == size:
            return made
        padding += size - len(made)


async def stored(app: Any, name: str) -> bool:
    request = RawRequest(app, f"/agent-runs/{Trace(name).id}")
    await request.end()
    return request.status == 200


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_size_limit_is_exact_for_declared_streamed_and_compressed_bodies(
    services: Services, encoding: Encoding
) -> None:
    async def scenario(app: Any) -> None:
        for size in (LIMIT, LIMIT + 1):
            for kind in ("declared", "streamed", "packed"):
                name = f"{kind} {size}"
                raw = body(name, size, encoding)
                sent = gzip.compress(raw) if kind == "packed" else raw
                request = export(
                    app,
                    sent[:300],
                    sent[300:],
                    encoding=encoding,
                    headers=(GZIP,) if kind == "packed" else (),
                    declared=len(sent) if kind == "declared" else None,
                )
                await request.end()
                if size > LIMIT:
                    reason = assert_refused(answer_of(request), 413, encoding)
                    assert "RELAB_HTTP__MAX_BODY_MB" in reason
                    assert not await stored(app, name)
                else:
                    assert assert_taken(answer_of(request)) == (0, "")
                    assert await stored(app, name)

    against(services, scenario)


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_a_body_of_100_mb_is_refused_before_it_is_read(
    make_services: Callable[..., Services], encoding: Encoding
) -> None:
    async def scenario(app: Any) -> None:
        declared = export(app, b" " * MB, encoding=encoding, declared=100 * MB, finished=False)
        await declared.end()
        assert_refused(answer_of(declared), 413, encoding)
        assert declared.pending_parts == 1
        assert declared.headers["connection"] == "close"

        streamed = export(app, *[b" " * MB] * 100, encoding=encoding)
        await streamed.end()
        assert_refused(answer_of(streamed), 413, encoding)
        # The server stops reading at its default limit of 64 MB.
        assert 30 <= streamed.pending_parts <= 36
        after = export(app, body("after"))
        await after.end()
        assert assert_taken(answer_of(after)) == (0, "")

    against(make_services(), scenario)


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_requests_beyond_the_concurrency_limit_are_rejected_before_their_bodies_are_read(
    services: Services, encoding: Encoding
) -> None:
    async def scenario(app: Any) -> None:
        raw = body("taken", encoding=encoding)
        # Runs and exports share one limit of concurrent requests.
        json_type = (b"content-type", b"application/json")
        slow_run = RawRequest(app, "/agent-runs", method="POST", headers=[json_type], body=[b"{"], finished=False)
        slow = export(app, raw[:10], encoding=encoding, finished=False)
        for request in (slow_run, slow):
            await request.until(lambda request=request: not request.pending_parts)

        refused = export(app, raw, encoding=encoding, declared=len(raw), finished=False)
        await refused.end()
        assert_refused(answer_of(refused), 429, encoding)
        assert refused.pending_parts == 1

        slow_run.hang_up.set()
        await slow_run.end()
        accepted = export(app, raw, encoding=encoding)
        await accepted.end()
        assert assert_taken(answer_of(accepted)) == (0, "")
        slow.hang_up.set()
        await slow.end()

    against(services, scenario)


def test_bytes_beyond_the_total_limit_are_rejected_before_they_are_read(make_services: Callable[..., Services]) -> None:
    async def scenario(app: Any) -> None:
        raw = body("taken", 15_000)
        slow = [export(app, raw[:10], declared=LIMIT, finished=False) for _ in range(3)]
        for request in slow:
            await request.until(lambda request=request: not request.pending_parts)
        declared = export(app, raw, declared=len(raw), finished=False)
        await declared.end()
        assert_refused(answer_of(declared), 429, "protobuf")
        assert declared.pending_parts == 1
        streamed = export(app, *[raw[:1_000]] * 15, finished=False)
        await streamed.end()
        assert_refused(answer_of(streamed), 429, "protobuf")
        assert streamed.pending_parts >= 14

        slow[0].hang_up.set()
        await slow[0].end()
        accepted = export(app, raw, declared=len(raw))
        await accepted.end()
        assert assert_taken(answer_of(accepted)) == (0, "")
        for request in slow[1:]:
            request.hang_up.set()
            await request.end()

    against(make_services(http={"max_body_mb": LIMIT / MB, "max_concurrent_ingest_mb": ROOM / MB}), scenario)


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_body_that_never_arrives_times_out_and_frees_its_slot(
    make_services: Callable[..., Services], encoding: Encoding
) -> None:
    services = make_services(http={"max_concurrent_ingests": 2, "body_timeout_s": 0.05})

    async def scenario(app: Any) -> None:
        for _ in range(4):
            request = export(app, body("slow")[:9], encoding=encoding, finished=False)
            await request.end()
            assert_refused(answer_of(request), 408, encoding)
            assert request.headers["connection"] == "close"

    against(services, scenario)


def test_export_of_a_client_that_disconnects_is_not_stored(services: Services) -> None:
    async def scenario(app: Any) -> None:
        whole = body("left")
        for length in (0, 1, len(whole) - 1, len(whole)):
            request = export(app, whole[:length], finished=False)
            await request.until(lambda request=request: not request.pending_parts)
            request.hang_up.set()
            await request.end()
            assert request.status < 500
        assert not await stored(app, "left")

    with structlog.testing.capture_logs() as logs:
        against(services, scenario)
    assert not [entry for entry in logs if entry["log_level"] in {"error", "critical"}]


def test_cancelled_request_does_not_affect_others(services: Services) -> None:
    """Servers cancel requests when they stop or when clients disconnect, so the writer must survive a cancellation."""

    async def scenario(app: Any) -> None:
        held, done = threading.Event(), threading.Event()

        def hold() -> None:
            with services.database.write() as unit:
                unit.session.connection()  # The transaction begins here and takes SQLite's only write lock.
                held.set()
                done.wait(30)

        holder = threading.Thread(target=hold)
        holder.start()
        try:
            await asyncio.to_thread(held.wait, 30)
            given_up = export(app, body("given up"))
            waits = export(app, body("waits"))
            # Both requests are queued for the writer, which waits for the database.
            await waits.until(lambda: app.state.ingest_gate.requests == 2)
            given_up._task.cancel()
            await given_up.end()
        finally:
            done.set()
            await asyncio.to_thread(holder.join)
        await waits.end()
        assert assert_taken(answer_of(waits)) == (0, "")
        after = export(app, body("after"))
        await after.end()
        assert assert_taken(answer_of(after)) == (0, "")
        assert await stored(app, "waits")
        assert await stored(app, "after")

    against(services, scenario)


def test_runs_and_spans_are_ingested_concurrently(services: Services) -> None:
    async def scenario(app: Any) -> None:
        json_type = (b"content-type", b"application/json")
        for number in range(10):
            run = httpx.Request("POST", "http://x/", json=minimal_run(f"run-{number}")).content
            requests = [
                RawRequest(app, "/agent-runs", method="POST", headers=[json_type], body=[run]),
                export(app, body(f"trace {number}")),
            ]
            for request in requests:
                await request.end()
            assert [request.status for request in requests] == [201, 200]
            assert await stored(app, f"trace {number}")

    against(services, scenario)

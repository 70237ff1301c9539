"""The limits of a request: its size, its decompressed size, the time for its body, and concurrent requests."""

from __future__ import annotations

import asyncio
import gzip
import json
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import pytest
import structlog

from relab.bootstrap import Services, build
from relab.server import create_app
from support.api.asgi import RawRequest
from support.telemetry.runs import minimal_run

LIMIT = 20_000
JSON = (b"content-type", b"application/json")
GZIP = (b"content-encoding", b"gzip")


@asynccontextmanager
async def running_app(services: Services) -> AsyncIterator[Any]:
    app = create_app(build(services.settings))
    async with app.router.lifespan_context(app):
        yield app


@pytest.fixture
def services(make_services: Callable[..., Services]) -> Services:
    """An installation with bodies of at most 20,000 bytes and two concurrent ingests."""
    return make_services(http={"max_body_mb": LIMIT / 1_048_576, "max_concurrent_ingests": 2})


def against(services: Services, scenario: Callable[[Any], Coroutine[Any, Any, None]]) -> None:
    """Run the scenario against the app of these services."""

    async def run() -> None:
        async with running_app(services) as app:
            await scenario(app)

    asyncio.run(run())


def post(app: Any, *parts: bytes, headers: tuple[tuple[bytes, bytes], ...] = (), finished: bool = True) -> RawRequest:
    return RawRequest(app, "/agent-runs", method="POST", headers=[JSON, *headers], body=parts, finished=finished)


def body(run_id: str, size: int) -> bytes:
    """Return a valid body of exactly `size` bytes."""
    empty = json.dumps(minimal_run(run_id, error_message="")).encode()
    return json.dumps(minimal_run(run_id, error_message="x" * (size - len(empty)))).encode()


async def stored(app: Any) -> list[str]:
    """Return the ids of the stored runs."""
    request = RawRequest(app, "/agent-runs")
    await request.end()
    return [run["run_id"] for run in json.loads(request.text)["items"]]


def assert_refused(request: RawRequest, status: int, code: str) -> dict[str, Any]:
    assert request.status == status, request.text
    assert request.headers["content-type"] == "application/problem+json"
    problem: dict[str, Any] = json.loads(request.text)
    assert problem["type"] == f"urn:relab:problem:{code}"
    assert problem["status"] == status
    return problem


def test_size_limit_is_exact_with_and_without_a_declared_length(services: Services) -> None:
    async def scenario(app: Any) -> None:
        for run_id, size, declared, status in [
            ("a", LIMIT, True, 201),
            ("b", LIMIT, False, 201),
            ("c", LIMIT + 1, True, 413),
            ("d", LIMIT + 1, False, 413),
        ]:
            raw = body(run_id, size)
            headers = ((b"content-length", str(size).encode()),) if declared else ()
            request = post(app, raw[:7_000], raw[7_000:], headers=headers)
            await request.end()
            assert request.status == status, (run_id, request.text)
            if status == 413:
                assert "RELAB_HTTP__MAX_BODY_MB" in assert_refused(request, 413, "too_large")["detail"]
        assert await stored(app) == ["b", "a"]

    against(services, scenario)


def test_body_with_a_too_large_declared_length_is_rejected_before_it_is_read(services: Services) -> None:
    async def scenario(app: Any) -> None:
        for length in (b"20001", b"9" * 19, b"9" * 5_000):
            request = post(app, headers=((b"content-length", length),), finished=False)
            await request.end()
            assert_refused(request, 413, "too_large")
            assert request.headers["connection"] == "close"
            assert request.headers["x-request-id"]

    against(services, scenario)


@pytest.mark.parametrize("length", [b"-1", b"abc", b"\xb2", b"1e9", b"0x10", b""])
def test_invalid_content_length_does_not_bypass_the_limit(services: Services, length: bytes) -> None:
    async def scenario(app: Any) -> None:
        request = post(app, body("a", LIMIT + 1), headers=((b"content-length", length),))
        await request.end()
        assert_refused(request, 413, "too_large")

    against(services, scenario)


def test_an_endless_body_is_cut_off_at_the_limit(services: Services) -> None:
    async def scenario(app: Any) -> None:
        request = post(app, *[b" " * 1_000] * 1_000, finished=False)
        await request.end()
        assert_refused(request, 413, "too_large")

    against(services, scenario)


def test_a_gzip_bomb_is_not_unpacked(services: Services) -> None:
    bombs = [
        gzip.compress(b" " * 10_000_000),
        gzip.compress(body("a", LIMIT + 1)),
        gzip.compress(b"\x00" * 10_000_000) + b"tail",
    ]

    async def scenario(app: Any) -> None:
        for bomb in bombs:
            assert len(bomb) < LIMIT
            request = post(app, bomb, headers=(GZIP,))
            await request.end()
            assert_refused(request, 413, "too_large")
        fits = post(app, gzip.compress(body("a", LIMIT)), headers=(GZIP,))
        await fits.end()
        assert fits.status == 201

    against(services, scenario)


def test_too_many_concurrent_requests_get_retry_after(services: Services) -> None:
    async def scenario(app: Any) -> None:
        raw = body("a", 500)
        slow = [post(app, raw[:10], finished=False) for _ in range(2)]
        for request in slow:
            await request.until(lambda request=request: not request.pending_parts)
        refused = post(app, raw)
        await refused.end()
        assert_refused(refused, 429, "overloaded")
        assert int(refused.headers["retry-after"]) >= 1

        slow[0].hang_up.set()
        await slow[0].end()
        accepted = post(app, raw)
        await accepted.end()
        assert accepted.status == 201
        slow[1].hang_up.set()
        await slow[1].end()

    against(services, scenario)


def test_request_whose_body_times_out_frees_its_slot(make_services: Callable[..., Services]) -> None:
    services = make_services(http={"max_concurrent_ingests": 2, "body_timeout_s": 0.05})

    async def scenario(app: Any) -> None:
        for _ in range(4):
            request = post(app, b'{"run_id":', finished=False)
            await request.end()
            assert_refused(request, 408, "http_error")
            assert request.headers["connection"] == "close"

    against(services, scenario)


def test_slow_notification_is_rejected_with_503_so_that_it_is_retried(make_services: Callable[..., Services]) -> None:
    services = make_services(http={"body_timeout_s": 0.05})

    async def scenario(app: Any) -> None:
        request = RawRequest(
            app, "/alerts/alertmanager", method="POST", headers=[JSON], body=(b'{"version":',), finished=False
        )
        await request.end()
        # Other routes answer 408, after which Alertmanager would not retry.
        assert_refused(request, 503, "unavailable")
        assert int(request.headers["retry-after"]) >= 1

    against(services, scenario)


def test_client_that_disconnects_does_not_crash_the_server(services: Services) -> None:
    async def scenario(app: Any) -> None:
        request = post(app, b'{"run_id":', finished=False)
        await request.until(lambda: not request.pending_parts)
        request.hang_up.set()
        await request.end()
        assert request.status == 499
        assert await stored(app) == []

    with structlog.testing.capture_logs() as logs:
        against(services, scenario)
    assert not [entry for entry in logs if entry["log_level"] in {"error", "critical"}]

"""The poller: requests each endpoint that the target offers, counts each log line once, and reports missing parts."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import httpx

from relab.incidents.models import POLL_LATENCY, AbsenceReason, Snapshot
from relab.incidents.polling.poller import Poller
from relab.incidents.probes.models import ProbeServer
from relab.incidents.probes.requests import ProbeTransport
from support.clocks import MovableClock

Answer = Callable[[httpx.Request], httpx.Response]

WELL: dict[str, Any] = {
    "/api/v1/health": {"health_status": "healthy", "error_rate": 0.0, "workers": [{"worker": 1, "state": "running"}]},
    "/api/v1/metrics": {"error_rate": 0.5, "p95_ms": 12.0, "requests": 100},
    "/api/v1/pool/status": {"pool_health": "healthy", "utilization_pct": 10.0},
    "/api/v1/diagnostics/processes": {
        "workers": [{"worker": 1, "uptime_s": 5.0, "rss_bytes": 150 << 20, "fds": 32, "fd_limit": 1_024}]
    },
}


class Shop:
    """A target whose log is a list of lines; its cursor is the number of lines read."""

    def __init__(self) -> None:
        self.lines: list[dict[str, str]] = [{"event": "old", "message": "from before"}]
        self.answers: dict[str, Any] = dict(WELL)
        self.asked: list[str] = []

    async def __call__(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(request.url.raw_path.decode())
        if request.url.path == "/api/v1/logs":
            return self._page(request.url.params["since"])
        found = self.answers.get(request.url.path)
        return httpx.Response(404, json={}) if found is None else httpx.Response(200, json=found)

    def _page(self, since: str) -> httpx.Response:
        if since != "latest" and not since.isdigit():
            return httpx.Response(422, json={"detail": "no such cursor"})
        start = len(self.lines) if since == "latest" else int(since)
        return httpx.Response(200, json={"logs": self.lines[start:], "cursor": str(len(self.lines))})


def polls(shop: Shop, *between: Callable[[], None]) -> list[Snapshot]:
    """Poll once, then once more after each change; return the polls."""

    async def go() -> list[Snapshot]:
        transports = {base: httpx.MockTransport(shop) for base in ProbeServer}
        asker = ProbeTransport("http://shop", "http://nobody", transports=transports)
        poller = Poller(asker, MovableClock(), interval_s=1.0)
        found = [await poller.poll()]
        for change in between:
            change()
            found.append(await poller.poll())
        return found

    return asyncio.run(go())


def test_poll_has_the_figures_of_all_endpoints() -> None:
    (found,) = polls(Shop())
    assert found.absent == {}
    assert found.absurd == ()
    assert found.templates == {}
    assert found.numbers["errors.pct"] == 0.5
    assert found.numbers["worker.1.rss_mb"] == 150.0
    assert found.numbers["worker.1.fds_pct"] == 3.125
    assert found.numbers["worker.1.uptime_s"] == 5.0


def test_each_line_of_the_log_is_counted_once() -> None:
    shop = Shop()
    line = {"event": "db_error", "message": "timeout after 30 s"}
    first, second, third = polls(shop, lambda: shop.lines.extend([line, line]), lambda: None)
    assert first.templates == {}
    assert second.templates == {"db_error: timeout after <n> s": 2}
    assert third.templates == {}


def test_unknown_log_cursor_is_replaced_by_the_latest() -> None:
    shop = Shop()
    line = {"event": "db_error", "message": "gone"}

    def forget() -> None:
        shop._page = lambda since: (  # type: ignore[method-assign]
            Shop._page(shop, since) if since == "latest" else httpx.Response(422, json={})
        )

    def know() -> None:
        del shop._page  # type: ignore[method-assign]
        shop.lines.append(line)

    found = polls(shop, forget, know, lambda: shop.lines.append(line))
    assert found[1].absent == {"logs": AbsenceReason.UNREADABLE}
    assert [item.templates for item in found[2:]] == [{}, {"db_error: gone": 1}]


def test_only_endpoints_that_answered_before_are_reported_missing() -> None:
    shop = Shop()
    del shop.answers["/api/v1/diagnostics/processes"]

    def lose_pool() -> None:
        del shop.answers["/api/v1/pool/status"]

    first, second = polls(shop, lose_pool)
    assert first.absent == {}
    assert second.absent == {"pool": AbsenceReason.UNREADABLE}


def test_health_and_metrics_are_needed_from_the_first_poll_on() -> None:
    shop = Shop()
    shop.answers = {}
    (found,) = polls(shop)
    assert found.absent == {"health": AbsenceReason.UNREADABLE, "metrics": AbsenceReason.UNREADABLE}


def test_unreachable_target_is_reported_for_each_part() -> None:
    async def refuse(_: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("refused")

    async def go() -> Snapshot:
        asker = ProbeTransport("http://x", "http://y", transports={b: httpx.MockTransport(refuse) for b in ProbeServer})
        return await Poller(asker, MovableClock(), interval_s=1.0).poll()

    found = asyncio.run(go())
    assert set(found.absent.values()) == {AbsenceReason.REFUSED}
    assert set(found.absent) == {"health", "metrics", "pool", "processes", "logs"}


def test_figures_are_requested_over_a_few_polls() -> None:
    shop = Shop()
    polls(shop)
    assert "/api/v1/metrics?window_s=5" in shop.asked


def test_invalid_time_is_reported_and_does_not_end_the_poll() -> None:
    shop = Shop()
    for odd in ("x", "", "0001-01-01T00:00:00Z", "9999-12-31T23:59:59-23:59", 5, [], {"a": 1}):
        shop.answers["/api/v1/health"] = {**WELL["/api/v1/health"], "timestamp": odd}

        (seen,) = polls(shop)

        assert seen.told_at_us is None, odd
        assert seen.absurd == ("timestamp",), odd
        assert seen.words["health"] == "healthy", odd


def test_invalid_process_values_are_ignored() -> None:
    shop = Shop()
    rows = [{"worker": 1, "rss_bytes": "much", "fds": -5, "fd_limit": 0, "uptime_s": -1}, 7, {"worker": {"a": []}}]
    shop.answers["/api/v1/diagnostics/processes"] = {"workers": rows}
    (found,) = polls(shop)
    assert found.absurd == ("worker.1.uptime_s",)
    assert not [name for name in found.numbers if name.startswith("worker.")]


def test_response_time_of_the_target_is_measured() -> None:
    shop = Shop()

    async def answer_late(request: httpx.Request) -> httpx.Response:
        await asyncio.sleep(0.1)
        return await Shop.__call__(shop, request)

    async def go() -> Snapshot:
        transports = {base: httpx.MockTransport(answer_late) for base in ProbeServer}
        asker = ProbeTransport("http://shop", "http://nobody", transports=transports)
        poller = Poller(asker, MovableClock(), interval_s=5.0)
        async with asyncio.timeout(60):
            # On a busy machine, polls have no latency.
            while POLL_LATENCY not in (found := await poller.poll()).numbers:
                pass
        return found

    assert 100 <= asyncio.run(go()).numbers[POLL_LATENCY] < 5_000


def test_delay_of_the_responder_is_not_measured_as_response_time() -> None:
    shop = Shop()

    async def block(request: httpx.Request) -> httpx.Response:
        await asyncio.sleep(0.02)
        time.sleep(0.2)  # noqa: ASYNC251 the responder's own loop stands still
        return await Shop.__call__(shop, request)

    async def go() -> Snapshot:
        transports = {base: httpx.MockTransport(block) for base in ProbeServer}
        asker = ProbeTransport("http://shop", "http://nobody", transports=transports)
        return await Poller(asker, MovableClock(), interval_s=5.0).poll()

    found = asyncio.run(go())
    assert found.absent == {}
    assert POLL_LATENCY not in found.numbers

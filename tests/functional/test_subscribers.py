"""Many idle subscribers cost little memory, and the server frees their streams when the clients disconnect."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from rig.waiting import wait_until
from support.lab.installation import Installation, Lab
from support.telemetry.seeds import seed_body

WARM_UP = 20
MAX_BYTES_EACH = 200_000
"""About four times what one costs; a thread or a database connection each would cost far more."""


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    # Without a worker the analysis stays queued and its subscribers stay idle.
    installation = Installation.on_sqlite(tmp_path)
    with installation.serve("--workers", "0") as server, Lab(installation, server) as client:
        yield client


@pytest.mark.parametrize("subscribers", [200, pytest.param(1_000, marks=pytest.mark.full)])
def test_idle_subscribers_cost_little_memory_and_end_with_their_clients(
    lab: Lab, subscribers: int, capsys: pytest.CaptureFixture[str]
) -> None:
    lab.post_run(seed_body(1))
    rca_run_id = lab.request_analysis("run-001-sufficient")
    server = psutil.Process(lab.server.pid)

    asyncio.run(_subscribe(lab, rca_run_id, WARM_UP))
    before = server.memory_info().rss
    during, threads = asyncio.run(_subscribe(lab, rca_run_id, subscribers))

    with capsys.disabled():
        print(f"\n{subscribers} subscribers: {(during - before) / subscribers / 1_000:.0f} kB each")
    assert during - before < MAX_BYTES_EACH * subscribers
    assert threads < 100
    assert lab.server.answers("/readyz")


async def _subscribe(lab: Lab, rca_run_id: str, count: int) -> tuple[int, int]:
    """Open streams, measure the server, and close them until it has none; return its RSS in bytes and its threads."""
    server = psutil.Process(lab.server.pid)
    writers = [await _open_stream(lab, rca_run_id) for _ in range(count)]
    await asyncio.to_thread(wait_until, lambda: _followers(lab) == count, what=f"{count} subscriptions")
    found = server.memory_info().rss, server.num_threads()
    for writer in writers:
        writer.close()
    await asyncio.gather(*(writer.wait_closed() for writer in writers))
    await asyncio.to_thread(wait_until, lambda: _followers(lab) == 0, what="the end of all subscriptions")
    return found


async def _open_stream(lab: Lab, rca_run_id: str) -> asyncio.StreamWriter:
    """Open a stream with a minimal client, so that the cost of the server dominates the measurement."""
    reader, writer = await asyncio.open_connection("127.0.0.1", lab.server.port)
    host = lab.server.url.removeprefix("http://")
    writer.write(f"GET /rca-runs/{rca_run_id}/stream HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
    head = await reader.readuntil(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 ")
    return writer


def _followers(lab: Lab) -> int:
    lines = lab.http.get("/metrics").text.splitlines()
    (value,) = [line.split()[1] for line in lines if line.startswith("relab_progress_followers ")]
    return int(float(value))

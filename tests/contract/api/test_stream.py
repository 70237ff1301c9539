"""Streams of an analysis as server-sent events: all stages, resuming, heartbeats and disconnected clients."""

from __future__ import annotations

import asyncio
import re
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from starlette.testclient import TestClient

from relab.bootstrap import Services, build
from relab.server import create_app
from rig.waiting import wait_until
from support.api.asgi import RawRequest
from support.api.client import assert_problem, fields_of, read_events, run_jobs, running_api
from support.telemetry.runs import failed_run

STAGES = [
    ("running", "Starting RCA", 5),
    ("running", "Collecting evidence", 30),
    ("running", "Classifying failure", 55),
    ("running", "Generating report", 85),
    ("done", "RCA complete", 100),
]


@pytest.fixture
def queued(api: TestClient, run_id: str) -> str:
    """The id of a queued analysis."""
    api.post("/agent-runs", json=failed_run(run_id))
    rca_run_id: str = api.post(f"/agent-runs/{run_id}/rca-runs").json()["rca_run_id"]
    return rca_run_id


def stages(text: str) -> list[tuple[str, str, int]]:
    return [(data["status"], data["step"], data["pct"]) for _, data in read_events(text)]


def test_late_subscriber_gets_all_events_in_the_format_of_the_seed(
    api: TestClient, installation: Services, queued: str
) -> None:
    run_jobs(installation)

    response = api.get(f"/rca-runs/{queued}/stream", headers={"accept-encoding": "gzip"})

    assert response.status_code == 200
    assert response.headers["content-type"].partition(";")[0] == "text/event-stream"
    assert response.headers["cache-control"] == "no-cache"
    assert "content-encoding" not in response.headers, "compression would hold events back"
    time = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z"
    expected = [
        rf'{{"status":"{status}","step":"{step}","pct":{pct},"message":"{step}","updated_at":"{time}"}}'
        for status, step, pct in STAGES
    ]
    data_lines = [line.removeprefix("data: ") for line in response.text.splitlines() if line.startswith("data: ")]
    assert len(data_lines) == len(STAGES)
    for line, pattern in zip(data_lines, expected, strict=True):
        assert re.fullmatch(pattern, line)
    assert [event_id for event_id, _ in read_events(response.text)] == [1, 2, 3, 4, 5]
    assert response.text.endswith("\n\n")


def test_an_early_subscriber_sees_every_stage_and_the_end(api: TestClient, installation: Services, queued: str) -> None:
    tailer = api.app.state.tailer  # type: ignore[attr-defined]
    with ThreadPoolExecutor(2) as pool:
        streams = [pool.submit(api.get, f"/rca-runs/{queued}/stream") for _ in range(2)]
        wait_until(lambda: tailer.follower_count == 2, what="two subscribers")
        run_jobs(installation)
        texts = [stream.result(60).text for stream in streams]

    assert [stages(text) for text in texts] == [STAGES, STAGES]
    wait_until(lambda: tailer.follower_count == 0, what="subscriptions being freed")


@pytest.mark.parametrize(
    ("last", "missed"), [("", 5), ("0", 5), ("2", 3), ("4", 1), ("5", 0), ("99999999999999999999", 0)]
)
def test_last_event_id_resumes(api: TestClient, installation: Services, queued: str, last: str, missed: int) -> None:
    run_jobs(installation)

    text = api.get(f"/rca-runs/{queued}/stream", headers={"last-event-id": last}).text

    assert stages(text) == STAGES[5 - missed :]


@pytest.mark.parametrize("last", ["x", "-1", "1.5", "1e3", "0x1", "²", "1 2", "1" * 21, "1;DROP"])
def test_a_bad_last_event_id_is_refused(api: TestClient, queued: str, last: str) -> None:
    response = api.get(f"/rca-runs/{queued}/stream", headers={"last-event-id": last.encode("latin-1")})

    assert fields_of(assert_problem(response, 422))[0].lower() == "header.last-event-id"


def test_idle_stream_gets_heartbeats_and_is_freed_when_its_client_disconnects(make_services: Any) -> None:
    services = make_services(progress={"heartbeat_interval_s": 0.05, "poll_interval_s": 0.02})

    async def scenario() -> None:
        watcher = build(services.settings)
        app = create_app(watcher)
        async with app.router.lifespan_context(app):
            stream = RawRequest(app, f"/rca-runs/{rca_run_id}/stream")
            await stream.until(lambda: b"".join(stream.chunks).count(b": ping\n\n") >= 2)
            assert stream.status == 200
            assert app.state.tailer.follower_count == 1
            stream.hang_up.set()
            await stream.until(lambda: app.state.tailer.follower_count == 0)
            await stream.end()

    with running_api(build(services.settings)) as api:
        api.post("/agent-runs", json=failed_run("r"))
        rca_run_id = api.post("/agent-runs/r/rca-runs").json()["rca_run_id"]
    asyncio.run(scenario())


def test_events_of_another_process_arrive_while_the_stream_is_open(make_services: Any) -> None:
    """The API and the worker share only the database."""
    services = make_services(progress={"poll_interval_s": 0.02})

    async def scenario() -> list[tuple[str, str, int]]:
        app = create_app(build(services.settings))
        async with app.router.lifespan_context(app):
            stream = RawRequest(app, f"/rca-runs/{rca_run_id}/stream")
            await stream.until(lambda: app.state.tailer.follower_count == 1)
            worker = build(services.settings)
            await asyncio.to_thread(run_jobs, worker)
            worker.close()
            await stream.end()
            return stages(stream.text)

    with running_api(build(services.settings)) as api:
        api.post("/agent-runs", json=failed_run("r"))
        rca_run_id = api.post("/agent-runs/r/rca-runs").json()["rca_run_id"]
    assert asyncio.run(scenario()) == STAGES

"""Two API servers and two workers share one PostgreSQL and one Redis."""

from __future__ import annotations

import random
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest

from rig.servers import PostgresServer, RedisServer
from rig.waiting import wait_until
from support.lab.installation import Installation, Lab, events_of
from support.telemetry.long_runs import rate_limited_run

pytestmark = pytest.mark.full
ANALYSES = 60
PERCENTAGES = [5, 30, 55, 85, 100]
SETTINGS = {"RELAB_JOBS__LEASE_S": "10", "RELAB_JOBS__SWEEP_INTERVAL_S": "0.5"}
"""No worker dies, and a busy machine must not let the lease of a living worker expire: its job would start again."""


@pytest.fixture(scope="module")
def own_redis() -> Iterator[RedisServer]:
    """A Redis of this test alone, which stops it."""
    server = RedisServer.create()
    yield server
    server.destroy()


@pytest.fixture(scope="module")
def labs(
    tmp_path_factory: pytest.TempPathFactory, postgres: PostgresServer, own_redis: RedisServer
) -> Iterator[list[Lab]]:
    home: Path = tmp_path_factory.mktemp("lab")
    installation = Installation.on_postgres(home, postgres, own_redis, **SETTINGS)
    with ExitStack() as stack:
        processes = [installation.serve(), installation.serve(), installation.worker(), installation.worker()]
        for process in processes:
            stack.callback(process.destroy)
            process.start(wait=False)
        for process in processes:
            process.wait_ready()
        yield [stack.enter_context(Lab(installation, process)) for process in processes[:2]]


@pytest.mark.full
def test_each_analysis_is_done_once_and_followed_on_the_other_server(labs: list[Lab]) -> None:
    choice = random.Random(20_250_504)
    for index in range(ANALYSES):
        choice.choice(labs).post_run(rate_limited_run(f"shared-{index}"))
    asked: list[tuple[str, str, Lab]] = []
    with ThreadPoolExecutor(8) as threads:
        streams = []
        for index in range(ANALYSES):
            one, other = choice.sample(labs, 2)
            rca_run_id = one.request_analysis(f"shared-{index}")
            # Both servers get a request for the same analysis, which must be created only once.
            assert other.request_analysis(f"shared-{index}") == rca_run_id
            asked.append((f"shared-{index}", rca_run_id, other))
            streams.append(threads.submit(other.stream_lines, rca_run_id))
        events = [events_of(stream.result()) for stream in streams]

    assert all([event["pct"] for event in found] == PERCENTAGES for found in events)
    for agent_run_id, rca_run_id, other in asked:
        assert other.analysis(rca_run_id)["status"] == "done"
        assert [item["rca_run_id"] for item in other.http.get(f"/agent-runs/{agent_run_id}/rca-runs").json()] == [
            rca_run_id
        ]
    _assert_done_once_each(labs[0].installation, {rca_run_id for _, rca_run_id, _ in asked})


def test_all_jobs_are_done_despite_a_redis_outage(labs: list[Lab], own_redis: RedisServer) -> None:
    choice = random.Random(20_250_505)
    for index in range(ANALYSES):
        choice.choice(labs).post_run(rate_limited_run(f"outage-{index}"))
    before = [choice.choice(labs).request_analysis(f"outage-{index}") for index in range(ANALYSES // 2)]

    own_redis.stop()
    during = [choice.choice(labs).request_analysis(f"outage-{index}") for index in range(ANALYSES // 2, ANALYSES)]
    assert labs[0].http.get("/readyz").json()["checks"]["queue"] == "broker_unavailable"
    own_redis.start()

    for rca_run_id in [*before, *during]:
        assert choice.choice(labs).finished(rca_run_id)["status"] == "done"
    assert labs[0].get("/readyz")["status"] == "ok"
    # Streams also work again on a server that lost its subscription to Redis.
    assert [event["pct"] for event in events_of(labs[1].stream_lines(during[-1]))] == PERCENTAGES
    _assert_all_reported_once(labs[0].installation, {*before, *during})


def _assert_done_once_each(installation: Installation, rca_run_ids: set[str]) -> None:
    """Assert that each job was started exactly once."""
    rows = _jobs(installation, rca_run_ids)
    assert {row[1:] for row in rows} == {("done", 1)}


def _assert_all_reported_once(installation: Installation, rca_run_ids: set[str]) -> None:
    assert {status for _, status, _ in _jobs(installation, rca_run_ids)} == {"done"}
    ends = dict(installation.query("SELECT topic, count(*) FROM progress_events WHERE pct = 100 GROUP BY topic"))
    assert {ends[rca_run_id] for rca_run_id in rca_run_ids} == {1}


def _jobs(installation: Installation, rca_run_ids: set[str]) -> list[tuple[str, str, int]]:
    def found() -> list[tuple[str, str, int]]:
        rows = installation.query("SELECT job_id, status, attempts FROM jobs")
        return [(job_id, status, attempts) for job_id, status, attempts in rows if job_id in rca_run_ids]

    # The status of a job becomes done shortly after that of its analysis.
    wait_until(lambda: all(status == "done" for _, status, _ in found()), what="the jobs being done")
    return found()

"""`lab serve` and `lab worker` stop cleanly on a signal and leave no process."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from rig.servers import PostgresServer, RedisServer
from rig.waiting import wait_until
from support.lab.installation import Installation, Lab
from support.telemetry.long_runs import rate_limited_run
from support.telemetry.seeds import seed_body

pytestmark = pytest.mark.full

SIGNALS = [signal.SIGTERM, signal.SIGINT]
SIGNALS_SAMPLED = [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.full)]


@pytest.mark.parametrize("number", SIGNALS)
def test_server_ends_its_worker_before_it_exits(tmp_path: Path, number: signal.Signals) -> None:
    installation = Installation.on_sqlite(tmp_path)
    with installation.serve(fresh=True) as server:
        (worker,) = server.children()

        assert server.stop(number) == 0

        # The server reaped the worker before it ended, so the worker was never an orphan.
        assert not worker.is_running()
        server.wait_alone()
    assert "Application shutdown complete" in server.log()
    assert "Traceback" not in server.log()


@pytest.mark.parametrize("number", SIGNALS_SAMPLED)
def test_server_ends_its_open_streams_before_it_exits(tmp_path: Path, number: signal.Signals) -> None:
    installation = Installation.on_sqlite(tmp_path)
    with installation.serve("--workers", "0") as server, Lab(installation, server) as lab:
        lab.post_run(seed_body(1))
        with _idle_stream(lab) as lines:
            assert server.stop(number) == 0
            # The stream ends as a complete response, and the client reconnects with the last id.
            assert list(lines) == []
    assert "Application shutdown complete" in server.log()
    assert "Cancel" not in server.log()
    assert "Traceback" not in server.log()


@contextmanager
def _idle_stream(lab: Lab) -> Iterator[Iterator[str]]:
    """Follow an analysis that no worker runs."""
    rca_run_id = lab.request_analysis("run-001-sufficient")
    with lab.http.stream("GET", f"/rca-runs/{rca_run_id}/stream") as answer:
        with lab.server.client() as other:
            wait_until(lambda: "relab_progress_followers 1.0" in other.get("/metrics").text, what="the subscription")
        yield answer.iter_lines()


def test_the_worker_of_a_killed_server_ends_by_itself(tmp_path: Path) -> None:
    installation = Installation.on_sqlite(tmp_path)
    with installation.serve() as server:
        wait_until(lambda: "worker_started" in server.log(), what="the worker being at work")

        server.kill()

        server.wait_alone()
    assert "Traceback" not in server.log()


@pytest.mark.parametrize("number", SIGNALS_SAMPLED)
@pytest.mark.parametrize("back_end", ["sqlite+embedded", "postgres+rq"])
def test_stopped_worker_finishes_its_running_job(
    request: pytest.FixtureRequest, tmp_path: Path, back_end: str, number: signal.Signals
) -> None:
    installation = _installation(request, tmp_path, back_end)
    with installation.serve("--workers", "0") as server, Lab(installation, server) as lab:
        lab.post_run(rate_limited_run("long", steps=3_000))
        with installation.worker() as worker:
            rca_run_id = lab.request_analysis("long")
            wait_until(lambda: installation.job_status(rca_run_id) == "running", what="the job being run")

            assert worker.stop(number) == 0

        rows = installation.query("SELECT status, attempts FROM jobs WHERE job_id = :id", id=rca_run_id)
        assert rows == [("done", 1)]
        assert lab.analysis(rca_run_id)["status"] == "done"
        assert "Traceback" not in worker.log()


@pytest.mark.parametrize("back_end", ["sqlite+embedded", "postgres+rq"])
def test_a_worker_that_is_stopped_as_soon_as_it_starts_ends(
    request: pytest.FixtureRequest, tmp_path: Path, back_end: str
) -> None:
    installation = _installation(request, tmp_path, back_end)
    with installation.worker(fresh=True) as worker:
        # The worker may not listen to the broker yet, and must not lose the signal.
        assert worker.stop() == 0
    assert "Traceback" not in worker.log()


def test_worker_whose_terminal_is_closed_stops_cleanly(tmp_path: Path) -> None:
    with Installation.on_sqlite(tmp_path).worker() as worker:
        wait_until(lambda: "worker_started" in worker.log(), what="the worker being at work")

        assert worker.stop(signal.SIGHUP) == 0
    assert "Traceback" not in worker.log()


def _installation(request: pytest.FixtureRequest, home: Path, back_end: str) -> Installation:
    if back_end == "sqlite+embedded":
        return Installation.on_sqlite(home)
    postgres: PostgresServer = request.getfixturevalue("postgres")
    redis_server: RedisServer = request.getfixturevalue("redis_server")
    return Installation.on_postgres(home, postgres, redis_server)

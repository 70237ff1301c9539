"""PostgreSQL crashes while the API and its worker run: both wait and recover without a restart."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from rig.servers import PostgresServer
from rig.waiting import wait_until
from support.lab.installation import FAST_RECOVERY, Installation, Lab
from support.telemetry.posters import Posters, assert_stored_once_and_whole
from support.telemetry.seeds import seed_body


@pytest.fixture
def own_postgres() -> Iterator[PostgresServer]:
    """A PostgreSQL server that no other test uses, because the test stops it."""
    server = PostgresServer.create()
    yield server
    server.destroy()


@pytest.mark.full
@pytest.mark.parametrize("crashes", [5])
def test_acknowledged_runs_survive_crashes_and_server_and_worker_recover(
    tmp_path: Path, own_postgres: PostgresServer, crashes: int
) -> None:
    installation = Installation.on_postgres(tmp_path, own_postgres, None, **FAST_RECOVERY)
    with installation.serve() as server, Lab(installation, server) as lab:
        (worker,) = server.children()
        with Posters(server.url) as posters:
            for _ in range(crashes):
                posters.wait_for_acknowledgements()
                own_postgres.stop("immediate")
                posters.wait_for_refusal()
                assert lab.http.get("/readyz").json()["checks"]["database"] == "database_unavailable"
                assert lab.http.get("/healthz").status_code == 200
                own_postgres.start()
                posters.wait_for_acknowledgements()

        for answer in posters.refused:
            assert answer.status_code == 503
            assert int(answer.headers["Retry-After"]) >= 1
            assert answer.headers["Content-Type"] == "application/problem+json"
        assert_stored_once_and_whole(lab, posters.acknowledged)
        assert lab.get("/readyz")["status"] == "ok"
        # The worker has survived the crashes, too.
        lab.post_run(seed_body(1))
        assert lab.analyse("run-001-sufficient")["category"] == "tool_schema_mismatch"
        assert [child.pid for child in server.children()] == [worker.pid]
    assert "Traceback" not in server.log()


def test_a_worker_that_starts_before_its_database_waits_for_it(tmp_path: Path, own_postgres: PostgresServer) -> None:
    installation = Installation.on_postgres(tmp_path, own_postgres, None, **FAST_RECOVERY)
    own_postgres.stop("fast")
    worker = installation.worker()
    try:
        worker.start(wait=False)
        wait_until(lambda: "worker_waits_for_database" in worker.log(), what="the worker waiting")
        own_postgres.start()
        worker.wait_ready()
        assert worker.stop() == 0
    finally:
        worker.destroy()

"""The server or its database is killed while exporters send: each acknowledged span is stored and counted once."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from rig.servers import PostgresServer
from support.lab.installation import Installation, Lab
from support.otlp.exporters import Exporters, assert_stored_once_and_counted, assert_unavailable


@pytest.mark.full
@pytest.mark.timeout(600)
@pytest.mark.parametrize(("kills", "workers"), [(20, "0"), (10, "1")])
def test_no_acknowledged_span_is_lost_when_the_server_is_killed(tmp_path: Path, kills: int, workers: str) -> None:
    """With a worker, each kill can also interrupt a projection."""
    choice = random.Random(kills)
    installation = Installation.on_sqlite(tmp_path)
    with installation.serve("--workers", workers) as server:
        with Exporters(server.url) as exporters:
            for _ in range(kills):
                exporters.wait_for_acknowledgements(choice.randint(10, 60))
                server.kill()
                server.start()
            exporters.wait_for_acknowledgements()
        with Lab(installation, server) as lab:
            assert_stored_once_and_counted(lab, exporters)
    # Each kill interrupted a request, and the restarted server rejects nothing.
    assert exporters.unanswered >= kills
    assert exporters.refused == []
    assert "Traceback" not in server.log()


@pytest.fixture
def own_postgres() -> Iterator[PostgresServer]:
    """A PostgreSQL of this test alone, which crashes it.

    It runs with fsync=off: a committed write survives the crash of all server processes, as in this test, but not a
    crash of the machine. The test would fail if a commit returned before it had written.
    """
    server = PostgresServer.create()
    yield server
    server.destroy()


@pytest.mark.parametrize("crashes", [2, pytest.param(10, marks=[pytest.mark.full, pytest.mark.timeout(600)])])
def test_no_acknowledged_span_is_lost_when_the_database_crashes(
    tmp_path: Path, own_postgres: PostgresServer, crashes: int
) -> None:
    installation = Installation.on_postgres(tmp_path, own_postgres, None)
    with installation.serve("--workers", "0") as server, Lab(installation, server) as lab:
        with Exporters(server.url) as exporters:
            for _ in range(crashes):
                exporters.wait_for_acknowledgements()
                own_postgres.stop("immediate")
                exporters.wait_for_refusal()
                assert lab.http.get("/healthz").status_code == 200
                own_postgres.start()
                # The server continues without a restart.
                exporters.wait_for_acknowledgements()
        assert_stored_once_and_counted(lab, exporters)
        assert lab.get("/readyz")["status"] == "ok"
    assert_unavailable(exporters.refused)
    assert exporters.unanswered == 0
    assert "Traceback" not in server.log()

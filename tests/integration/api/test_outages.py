"""The API during and after an outage of its database or its broker."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from starlette.testclient import TestClient

from relab.bootstrap import Services
from relab.server import create_app
from relab.storage.errors import DatabaseUnavailableError
from rig.servers import PostgresServer, RedisServer
from rig.waiting import wait_until
from support.api.client import assert_problem, loopback_client, run_jobs, running_api
from support.telemetry.runs import failed_run, minimal_run


@pytest.fixture
def own_postgres() -> Iterator[PostgresServer]:
    """A PostgreSQL that this test may stop."""
    server = PostgresServer.create()
    yield server
    server.destroy()


@pytest.fixture
def own_redis() -> Iterator[RedisServer]:
    """A Redis that this test may stop."""
    server = RedisServer.create()
    yield server
    server.destroy()


def requests(client: TestClient) -> list[Any]:
    """Send a request to every route that needs the database, and return the responses."""
    return [
        client.post("/agent-runs", json=minimal_run("lost")),
        client.get("/agent-runs"),
        client.get("/agent-runs/r"),
        client.get("/agent-runs/r/timeline"),
        client.delete("/agent-runs/r"),
        client.post("/agent-runs/r/rca-runs"),
        client.get("/agent-runs/r/rca-runs"),
        client.get("/agent-runs/rca-runs/x"),
        client.get("/rca-runs/x/stream"),
        client.get("/metrics/overview"),
        client.get("/metrics"),
    ]


def test_database_outage_is_reported_and_survived(
    own_postgres: PostgresServer, make_services: Callable[..., Services]
) -> None:
    services = make_services(database_url=own_postgres.create_database("outage"))
    with running_api(services) as client:
        client.post("/agent-runs", json=failed_run("r"))
        rca_run_id = client.post("/agent-runs/r/rca-runs").json()["rca_run_id"]
        own_postgres.stop("immediate")

        for response in requests(client):
            problem = assert_problem(response, 503, "database_unavailable")
            assert int(response.headers["retry-after"]) >= 1
            assert str(own_postgres.port) not in problem["detail"], "callers learn nothing of the inside"
        assert client.get("/healthz").status_code == 200
        assert client.get("/").status_code == 200
        ready = client.get("/readyz")
        assert ready.status_code == 503
        assert ready.json()["checks"]["database"] == "database_unavailable"

        own_postgres.start()

        wait_until(lambda: client.get("/readyz").status_code == 200, what="readiness")
        assert client.get("/agent-runs/r").json()["counts"]["steps"] == 2
        assert_problem(client.get("/agent-runs/lost"), 404)
        run_jobs(services)
        assert client.get(f"/agent-runs/rca-runs/{rca_run_id}").json()["status"] == "done"


def test_making_the_app_does_not_connect_and_starting_it_does(
    own_postgres: PostgresServer, make_services: Callable[..., Services]
) -> None:
    services = make_services(database_url=own_postgres.create_database("start"))
    services.close()
    own_postgres.stop("immediate")

    app = create_app(services)

    with pytest.raises(DatabaseUnavailableError), loopback_client(app):
        pass


def test_without_redis_jobs_are_accepted_and_not_lost(
    postgres_url: str, own_redis: RedisServer, make_services: Callable[..., Services]
) -> None:
    services = make_services(database_url=postgres_url, redis_url=own_redis.url, rq_queue_name=f"outage-{os.getpid()}")
    with running_api(services) as client:
        own_redis.stop()

        assert client.post("/agent-runs", json=failed_run("r")).status_code == 201
        answer = client.post("/agent-runs/r/rca-runs")
        ready = client.get("/readyz")

        assert answer.status_code == 202
        assert ready.status_code == 503
        assert ready.json()["checks"] == {"database": "ok", "schema": "ok", "disk": "ok", "queue": "broker_unavailable"}
        own_redis.start()
        wait_until(lambda: client.get("/readyz").status_code == 200, what="readiness")
        run_jobs(services)
        rca_run = client.get(f"/agent-runs/rca-runs/{answer.json()['rca_run_id']}").json()
        assert rca_run["status"] == "done"

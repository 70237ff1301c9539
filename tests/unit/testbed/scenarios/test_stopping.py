"""Faults are stopped by name: what rollbacks of a file can say."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from fastapi.testclient import TestClient

from relab.testbed.chaos.manager import ChaosManager
from relab.testbed.chaos.server import create_app
from support.clocks import MovableClock
from support.testbed.leaks import leaks


@pytest.fixture
def client() -> Iterator[TestClient]:
    manager = ChaosManager(leaks([]), {}, MovableClock())
    with TestClient(create_app(manager), raise_server_exceptions=False) as made:
        yield made
    manager.close()


def test_whatever_of_a_fault_is_at_work_or_waits_is_stopped_and_nothing_else(client: TestClient) -> None:
    client.post("/api/v1/break/drip")
    client.post("/api/v1/break/burst?delay=600")

    stopped = client.post("/api/v1/break/drip/stop")
    assert (stopped.status_code, [item["phase"] for item in stopped.json()["stopped"]]) == (200, ["stopped"])
    assert client.post("/api/v1/break/drip/stop").json() == {"stopped": []}
    assert {item["fault"]: item["phase"] for item in client.get("/api/v1/break").json()["injections"]} == {
        "drip": "stopped",
        "burst": "waiting",
    }
    assert client.post("/api/v1/break/burst/stop").json()["stopped"][0]["phase"] == "stopped"


def test_an_unknown_fault_is_refused(client: TestClient) -> None:
    refused = client.post("/api/v1/break/thirst/stop")

    assert refused.status_code == 404
    assert "One of: drip, burst, flood" in refused.json()["detail"]

"""Faults are stopped by name, because the rollbacks of a scenario file cannot contain the id of an injection."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from fastapi.testclient import TestClient

from relab.testbed.chaos.server import create_app
from support.testbed.leaks import leak_manager


@pytest.fixture
def client() -> Iterator[TestClient]:
    manager = leak_manager([])
    with TestClient(create_app(manager), base_url="http://localhost", raise_server_exceptions=False) as made:
        yield made
    manager.close()


def test_all_open_injections_of_a_fault_are_stopped_and_no_others(client: TestClient) -> None:
    client.post("/api/v1/break/drip")
    client.post("/api/v1/break/burst?delay=600")

    stopped = client.post("/api/v1/break/drip/stop")
    assert stopped.status_code == 200
    assert [item["phase"] for item in stopped.json()["stopped"]] == ["stopped"]
    assert client.post("/api/v1/break/drip/stop").json() == {"stopped": []}
    assert {item["fault"]: item["phase"] for item in client.get("/api/v1/break").json()["injections"]} == {
        "drip": "stopped",
        "burst": "waiting",
    }
    assert client.post("/api/v1/break/burst/stop").json()["stopped"][0]["phase"] == "stopped"


def test_unknown_fault_is_rejected_with_the_known_names(client: TestClient) -> None:
    refused = client.post("/api/v1/break/thirst/stop")

    assert refused.status_code == 404
    assert "One of: drip, burst, flood" in refused.json()["detail"]

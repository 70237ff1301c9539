"""The chaos server over HTTP: inject, list and stop faults, with the requests that the seed defines."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from fastapi.testclient import TestClient
from httpx import Response

from relab.testbed.chaos.server import create_app
from relab.testbed.episodes import BREAKER_HEADER, BREAKER_VARIABLE
from support.testbed.leaks import leak_manager


@pytest.fixture
def log() -> list[str]:
    return []


@pytest.fixture
def client(log: list[str]) -> Iterator[TestClient]:
    manager = leak_manager(log)
    with TestClient(create_app(manager), base_url="http://localhost:8080", raise_server_exceptions=False) as made:
        yield made
    manager.close()


def code_of(response: Response) -> tuple[int, str]:
    assert response.headers["content-type"] == "application/problem+json"
    return response.status_code, response.json()["code"]


def test_fault_is_injected_listed_and_stopped(client: TestClient, log: list[str]) -> None:
    begun = client.post("/api/v1/break/drip?intensity=0.5", json={"seed": 3})
    injection_id = begun.json()["id"]
    assert begun.status_code == 201
    assert begun.json()["phase"] == "active"
    assert begun.json()["parameters"] | {"intensity": 0.5, "seed": 3} == begun.json()["parameters"]
    assert [item["injection_id"] for item in client.get("/api/v1/break").json()["injections"]] == [injection_id]

    assert client.post(f"/api/v1/break/drip/{injection_id}/stop").json()["phase"] == "stopped"
    assert code_of(client.post(f"/api/v1/break/drip/{injection_id}/stop")) == (409, "already_ended")
    assert log == ["0.50", "end"]


def test_delay_and_duration_are_read_from_the_query(client: TestClient, log: list[str]) -> None:
    waiting = client.post("/api/v1/break/drip?delay=3600&duration=60").json()
    assert waiting["phase"] == "waiting"
    assert waiting["delay_s"] == 3_600
    assert waiting["duration_s"] == 60
    assert log == []
    assert client.get(f"/api/v1/break/{waiting['id']}").json()["phase"] == "waiting"


def test_catalogue_lists_findings_needs_and_parameters(client: TestClient) -> None:
    faults = {item["name"]: item for item in client.get("/api/v1/faults").json()["faults"]}
    assert faults["drip"]["tells_apart"] == "the tap drips"
    assert faults["flood"]["impossible"] == "there is no control group"
    assert faults["drip"]["parameters"]["additionalProperties"] is False


@pytest.mark.parametrize(
    ("path", "answer"),
    [
        ("drip?intensity=2", (422, "wrong_parameters")),
        ("drip?shell=id", (422, "wrong_parameters")),
        ("drip?duration=0", (422, "invalid_input")),
        ("drip?delay=-1", (422, "invalid_input")),
        ("burst?ramp_s=2", (422, "wrong_parameters")),
        ("quake", (404, "unknown_fault")),
        ("flood", (503, "not_possible_here")),
        ("drip?seed=13", (503, "unavailable")),
        ("drip/none/stop", (404, "unknown_injection")),
    ],
)
def test_invalid_injection_is_rejected_and_changes_nothing(
    client: TestClient, log: list[str], path: str, answer: tuple[int, str]
) -> None:
    assert code_of(client.post(f"/api/v1/break/{path}")) == answer
    assert log == []


def test_duplicate_fault_and_id_of_another_fault_are_rejected(client: TestClient) -> None:
    injection_id = client.post("/api/v1/break/drip").json()["id"]
    assert code_of(client.post("/api/v1/break/drip")) == (409, "already_active")
    assert code_of(client.post(f"/api/v1/break/burst/{injection_id}/stop")) == (404, "unknown_injection")
    assert client.get(f"/api/v1/break/{injection_id}").json()["phase"] == "active"


@pytest.mark.parametrize(
    ("method", "path", "body", "told"),
    [
        ("GET", "/nowhere", b"", (404, "not_found")),
        ("DELETE", "/api/v1/break", b"", (405, "method_not_allowed")),
        ("POST", "/api/v1/break/drip", b'{"a": "\xff"}', (400, "invalid_request")),
        ("POST", "/api/v1/break/drip", b'{"a": ', (422, "invalid_input")),
    ],
)
def test_unreadable_requests_get_problem_documents(
    client: TestClient, method: str, path: str, body: bytes, told: tuple[int, str]
) -> None:
    answer = client.request(method, path, content=body, headers={"Content-Type": "application/json"})
    assert code_of(answer) == told


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "attacker.example:8080"},
        {"Host": "attacker.example:8080", "Origin": "http://attacker.example:8080"},
        {"Origin": "http://attacker.example"},
        {"Origin": "http://localhost:3000"},
        {"Sec-Fetch-Site": "same-site"},
    ],
)
@pytest.mark.parametrize(("method", "path"), [("POST", "/api/v1/break/drip"), ("GET", "/api/v1/faults")])
def test_request_of_a_web_page_is_rejected(
    client: TestClient, log: list[str], method: str, path: str, headers: dict[str, str]
) -> None:
    assert code_of(client.request(method, path, headers=headers)) == (403, "page_refused")
    assert log == []


def test_measured_testbed_requires_the_breaker_secret_on_every_route(
    log: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(BREAKER_VARIABLE, "s" * 32)
    manager = leak_manager(log)
    with TestClient(create_app(manager), raise_server_exceptions=False) as client:
        asked = [
            ("GET", "/api/v1/faults"), ("GET", "/api/v1/break"), ("GET", "/api/v1/break/x"), ("POST", "/api/v1/break/drip"),
            ("POST", "/api/v1/break/drip/x/stop"), ("POST", "/api/v1/break/drip/stop"),
        ]  # fmt: skip
        for method, path in asked:
            for given in ({}, {BREAKER_HEADER: ""}, {BREAKER_HEADER: "s" * 31}):
                assert code_of(client.request(method, path, headers=given)) == (403, "not_the_breaker")
        assert log == []
        assert client.get("/health").status_code == 200
        assert client.post("/api/v1/break/drip", headers={BREAKER_HEADER: "s" * 32}).status_code == 201
    manager.close()

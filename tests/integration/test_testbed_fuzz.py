"""Generated requests for the chaos server and the action server: no 5xx, and each rejection is a problem document."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from fastapi import FastAPI
from fastapi.testclient import TestClient
from hypothesis import given, seed
from schemathesis import GenerationMode

from relab.testbed.actions.audit import AuditLog
from relab.testbed.actions.guard import ActionLimits, Guard
from relab.testbed.actions.health import TargetHealth
from relab.testbed.actions.looks import Looks
from relab.testbed.actions.plant import Plant
from relab.testbed.actions.server import ActionServices
from relab.testbed.actions.server import create_app as create_actions
from relab.testbed.actions.service import ActionService
from relab.testbed.actions.tokens import Tokens
from relab.testbed.chaos.server import create_app as create_chaos
from support.clocks import MovableClock
from support.telemetry.runs import examples
from support.testbed.leaks import leak_manager
from support.testbed.valves import TurnValve, Valves

CHAOS = (
    ("GET", "/health"), ("GET", "/api/v1/faults"), ("GET", "/api/v1/break"), ("GET", "/api/v1/break/{injection_id}"),
    ("POST", "/api/v1/break/{fault}"), ("POST", "/api/v1/break/{fault}/stop"),
    ("POST", "/api/v1/break/{fault}/{injection_id}/stop"),
)  # fmt: skip
ACTIONS = (
    ("GET", "/health"), ("GET", "/actions"), ("POST", "/action/{name}"), ("GET", "/records"),
    ("GET", "/records/{record_id}"), ("POST", "/records/{record_id}/undo"), ("GET", "/kill-switch"), ("PUT", "/kill-switch"),
)  # fmt: skip


@pytest.fixture
def chaos() -> Iterator[TestClient]:
    manager = leak_manager([])
    with TestClient(create_chaos(manager), raise_server_exceptions=False) as client:
        client.post("/api/v1/break/drip")
        yield client
    manager.close()


@pytest.fixture
def actions(tmp_path: Path) -> Iterator[TestClient]:
    audit = AuditLog(tmp_path / "actions.jsonl")
    service = ActionService(
        [TurnValve(Valves(tmp_path / "v.json"))], audit, Guard(audit, ActionLimits()), MovableClock()
    )
    tokens = Tokens(tmp_path / "tokens.json")
    plant = Plant(tmp_path / "nobody.sock", "http://127.0.0.1:9")
    app = create_actions(ActionServices(service, tokens, TargetHealth(plant.target_url), Looks(plant)))
    with TestClient(app, raise_server_exceptions=False) as client:
        client.headers["Authorization"] = f"Bearer {tokens.make('admin', ['admin'])}"
        client.post("/action/turn_valve", json={"component": "a", "to": 1})
        yield client
    audit.close()
    plant.close()


def send(client: TestClient, case: Any) -> Any:
    """Send a generated request, with the client's own `Authorization`, `Host` and `Cookie` headers."""
    made = case.as_transport_kwargs(base_url="http://testserver")
    headers = {
        name: str(value).encode("latin-1", "replace")
        for name, value in (made["headers"] or {}).items()
        if name.lower() not in {"authorization", "host", "cookie"}
    }
    content = {"json": made["json"]} if "json" in made else {"content": made.get("data")}
    params = {name: value for name, value in (made["params"] or {}).items() if value is not None}
    return client.request(made["method"], made["url"], params=params, headers=headers, **content)


def check(client: TestClient, method: str, path: str) -> None:
    app = client.app
    assert isinstance(app, FastAPI)
    operation = schemathesis.openapi.from_dict(app.openapi())[path][method]
    # Any string is a valid path, so only a body or a query can be invalid.
    takes_more = path in {"/api/v1/break/{fault}", "/action/{name}", "/records", "/kill-switch"}
    for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE)[: 2 if takes_more and "GET" not in method else 1]:

        @seed(20_261_121)
        @examples(15)
        @given(case=operation.as_strategy(generation_mode=mode))
        def ask(case: Any) -> None:
            response = send(client, case)
            assert response.status_code < 500, response.text
            if response.status_code >= 400:
                assert response.headers["content-type"] == "application/problem+json"
                assert response.json()["detail"]

        ask()


@pytest.mark.parametrize(("method", "path"), CHAOS)
def test_chaos_server_never_fails_on_generated_requests(chaos: TestClient, method: str, path: str) -> None:
    check(chaos, method, path)


@pytest.mark.parametrize(("method", "path"), ACTIONS)
def test_action_server_never_fails_on_generated_requests(actions: TestClient, method: str, path: str) -> None:
    check(actions, method, path)


def test_every_route_is_fuzzed(chaos: TestClient, actions: TestClient) -> None:
    for client, known in ((chaos, CHAOS), (actions, ACTIONS)):
        assert isinstance(client.app, FastAPI)
        described = {
            (method.upper(), path) for path, methods in client.app.openapi()["paths"].items() for method in methods
        }
        # These routes query a running service, which this test does not have.
        elsewhere = {"/action/verify-target-health", "/components", "/settings/history", "/logs"}
        assert described - set(known) <= {("GET", path) for path in elsewhere}

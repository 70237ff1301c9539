"""`lab testbed up --open-actions`: local programs act without a token, and web pages are rejected."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from relab.testbed.actions.audit import AuditLog
from relab.testbed.actions.guard import ActionLimits, Guard
from relab.testbed.actions.health import TargetHealth
from relab.testbed.actions.looks import Looks
from relab.testbed.actions.plant import Plant
from relab.testbed.actions.server import ActionServices, create_app
from relab.testbed.actions.service import ActionService
from relab.testbed.actions.tokens import Tokens
from relab.testbed.supervisor.plan import OPEN_ROWS, STANDARD_ROWS
from support.clocks import MovableClock
from support.testbed.valves import TurnValve, Valves

NOWHERE = "http://127.0.0.1:9"
TURN = {"component": "a", "to": 1}


@pytest.fixture
def client(tmp_path: Path) -> Iterator[TestClient]:
    audit = AuditLog(tmp_path / "actions.jsonl")
    limits = ActionLimits(max_per_window=100, max_per_part=100, cooldown_s=0)
    service = ActionService([TurnValve(Valves(tmp_path / "valves.json"))], audit, Guard(audit, limits), MovableClock())
    known = Tokens(tmp_path / "tokens.json")
    services = ActionServices(
        service, known, TargetHealth(NOWHERE), Looks(Plant(tmp_path / "none", NOWHERE)), is_open=True
    )
    with TestClient(create_app(services), base_url="http://localhost:9000", raise_server_exceptions=False) as found:
        yield found
    audit.close()


def test_program_acts_without_a_token_and_is_audited_as_anyone(client: TestClient) -> None:
    answer = client.post("/action/turn_valve", json=TURN)
    assert answer.status_code == 200
    assert client.get("/records").json()["records"][0]["actor"] == "anyone"


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://localhost:9000"},
        {"Origin": "null"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-origin"},
        {"Host": "attacker.example:9000"},
        {"Host": "localhost.attacker.example"},
        {"Host": "127.0.0.1.attacker.example"},
        {"Host": ""},
    ],
)
def test_request_from_a_web_page_is_rejected(client: TestClient, headers: dict[str, str]) -> None:
    answer = client.post("/action/turn_valve", json=TURN, headers=headers)
    assert answer.status_code == 403
    assert answer.json()["code"] == "page_refused"
    assert client.get("/records").json()["records"] == []


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1:9000", "[::1]:9000", "LOCALHOST:1"])
def test_every_loopback_host_name_is_served(client: TestClient, host: str) -> None:
    assert client.get("/actions", headers={"Host": host}).status_code == 200


def test_wrong_token_is_rejected_and_the_kill_switch_needs_one(client: TestClient) -> None:
    assert client.get("/actions", headers={"Authorization": "Bearer wrong"}).status_code == 401
    assert client.put("/kill-switch", json={"stopped": True}).status_code == 200
    assert client.put("/kill-switch", json={"stopped": False}).status_code == 403


def test_only_the_action_server_is_started_with_the_open_option() -> None:
    changed = [(before, after) for before, after in zip(STANDARD_ROWS, OPEN_ROWS, strict=True) if before != after]
    assert [(before.name, after.command[len(before.command) :]) for before, after in changed] == [
        ("actions", ["--open"])
    ]

"""The action server over HTTP: scopes of tokens, rejected requests, and problem documents."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from httpx import Response

from relab.core.errors import ConfigurationError
from relab.incidents.actions.client import ActionsClient
from relab.testbed.actions.audit import AuditLog
from relab.testbed.actions.guard import ActionLimits, Guard
from relab.testbed.actions.health import TargetHealth
from relab.testbed.actions.looks import Looks
from relab.testbed.actions.plant import Plant
from relab.testbed.actions.server import ActionServices, create_app
from relab.testbed.actions.service import ActionService
from relab.testbed.actions.tokens import TokenExistsError, Tokens, UnknownActionTokenError, WrongTokenNameError
from support.clocks import MovableClock
from support.testbed.valves import TurnValve, Valves


@dataclass
class Server:
    """A client of an action server, the server's tokens by name, and the valves that its actions turn."""

    client: TestClient
    tokens: dict[str, str]
    valves: Valves

    def ask(self, method: str, path: str, token: str | None = "operator", **more: Any) -> Response:
        headers = more.pop("headers", {})
        if token is not None:
            headers = {**headers, "Authorization": f"Bearer {self.tokens.get(token, token)}"}
        return self.client.request(method, path, headers=headers, **more)

    def turn(self, to: int, token: str | None = "operator", component: str = "a", **more: Any) -> Response:
        return self.ask("POST", "/action/turn_valve", token, json={"component": component, "to": to}, **more)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    valves = Valves(tmp_path / "valves.json")
    audit = AuditLog(tmp_path / "actions.jsonl")
    limits = ActionLimits(max_per_window=100, max_per_part=2, cooldown_s=0)
    service = ActionService([TurnValve(valves)], audit, Guard(audit, limits), MovableClock())
    known = Tokens(tmp_path / "tokens.json")
    tokens = {
        name: known.make(name, scopes)
        for name, scopes in {
            "reader": ["read"],
            "operator": ["read", "act"],
            "restarter": ["read", "act:restart"],
            "setter": ["read", "act:setting"],
            "admin": ["admin"],
            "blind": ["act:restart"],
        }.items()
    }
    services = ActionServices(
        service, known, TargetHealth("http://127.0.0.1:9"), Looks(Plant(tmp_path / "none", "http://127.0.0.1:9"))
    )
    with TestClient(create_app(services), raise_server_exceptions=False) as client:
        yield Server(client, tokens, valves)
    audit.close()


def code_of(response: Response) -> tuple[int, str]:
    assert response.headers["content-type"] == "application/problem+json"
    document = response.json()
    assert document["status"] == response.status_code
    assert document["detail"]
    return response.status_code, document["code"]


@pytest.mark.parametrize("token", [None, "", "wrong", "operator2"])
@pytest.mark.parametrize(
    ("method", "path"),
    [("POST", "/action/turn_valve"), ("GET", "/actions"), ("GET", "/records"), ("PUT", "/kill-switch"),
     ("GET", "/action/verify-target-health"), ("POST", "/records/x/undo"), ("GET", "/components"),
     ("GET", "/settings/history"), ("GET", "/logs?component=target")],
)  # fmt: skip
def test_unknown_token_is_rejected_on_every_route(server: Server, token: str | None, method: str, path: str) -> None:
    response = server.ask(method, path, token, json={"component": "a", "to": 1} if method != "GET" else None)

    assert code_of(response) == (401, "invalid_token")
    assert response.headers["www-authenticate"] == "Bearer"
    assert server.valves.read() == {}


def test_token_allows_its_scopes(server: Server) -> None:
    for token in ("reader", "restarter"):
        assert code_of(server.turn(1, token)) == (403, "missing_scope")
    for number, token in enumerate(("operator", "setter", "admin"), start=1):
        assert server.turn(number, token, component="abc"[number - 1]).status_code == 200
    assert server.valves.read() == {"a": 1, "b": 2, "c": 3}
    assert server.ask("GET", "/actions", "reader").json()["actions"][0]["inverse"] == "turn_valve"


def test_tokens_are_stored_as_digests_in_a_file_that_only_its_owner_can_read(server: Server, tmp_path: Path) -> None:
    path = tmp_path / "tokens.json"

    assert path.stat().st_mode & 0o777 == 0o600
    assert not any(token in path.read_text() for token in server.tokens.values())


def test_parameters_are_read_from_the_query_and_the_body(server: Server) -> None:
    assert server.ask("POST", "/action/turn_valve?component=a&to=3").status_code == 200
    assert server.ask("POST", "/action/turn_valve?component=a", json={"to": 4}).json()["record"]["after"]["stands"] == 4


@pytest.mark.parametrize(
    ("given", "answer"),
    [
        ({"json": {"component": "a; reboot", "to": 1}}, (422, "wrong_parameters")),
        ({"json": {"component": "a", "to": "`id`"}}, (422, "wrong_parameters")),
        ({"json": {"component": "a", "to": 1, "command": "id"}}, (422, "wrong_parameters")),
        ({"json": [1]}, (422, "invalid_input")),
        ({"content": b"{"}, (422, "invalid_input")),
        ({"content": b"x" * 70_000}, (413, "too_large")),
        ({"json": {"component": "a", "to": 0}}, (409, "precondition_failed")),
        ({"json": {"component": "a", "to": 1}, "headers": {"Idempotency-Key": "x" * 300}}, (422, "wrong_parameters")),
        ({"json": {"component": "a", "to": 1}, "params": {"if_state": "sha256:0"}}, (412, "stale_precondition")),
        ({"json": {"component": "a", "to": 1}, "params": {"dry_run": "perhaps"}}, (422, "invalid_input")),
    ],
)
def test_invalid_request_is_rejected_and_changes_nothing(
    server: Server, given: dict[str, Any], answer: tuple[int, str]
) -> None:
    assert code_of(server.ask("POST", "/action/turn_valve", **given)) == answer
    assert server.valves.read() == {}
    assert server.ask("GET", "/records").json()["records"] == []


def test_unknown_action_or_record_is_not_found(server: Server) -> None:
    assert code_of(server.ask("POST", "/action/shell", json={"command": "id"})) == (404, "unknown_action")
    assert code_of(server.ask("GET", "/records/none")) == (404, "unknown_record")
    assert code_of(server.ask("POST", "/records/none/undo")) == (404, "unknown_record")


def test_repeated_idempotency_key_performs_the_action_once(server: Server) -> None:
    key = {"headers": {"Idempotency-Key": "k"}}
    first, again = server.turn(1, **key).json(), server.turn(1, **key).json()

    assert first["replayed"] is False
    assert again["replayed"] is True
    assert first["record"]["record_id"] == again["record"]["record_id"]
    assert code_of(server.turn(2, **key)) == (409, "idempotency_key_reused")


def test_rate_limit_is_rejected_with_retry_after(server: Server) -> None:
    server.turn(1)
    server.turn(2)
    refused = server.turn(3)

    assert code_of(refused) == (429, "too_many_actions")
    assert refused.headers["retry-after"] == "600"


def test_failed_action_has_an_error_status_and_a_record(server: Server) -> None:
    response = server.turn(9)

    assert response.status_code == 502
    assert response.json()["ok"] is False
    record_id = response.json()["record"]["record_id"]
    assert server.ask("GET", f"/records/{record_id}").json()["error"] == "The valve is stuck."


def test_an_action_is_undone_over_http(server: Server) -> None:
    record_id = server.turn(5).json()["record"]["record_id"]

    assert server.ask("POST", f"/records/{record_id}/undo").json()["ok"] is True
    assert server.valves.read() == {"a": 0}
    assert code_of(server.ask("POST", f"/records/{record_id}/undo")) == (409, "not_reversible")


def test_operator_turns_the_kill_switch_on_and_administrator_turns_it_off(server: Server) -> None:
    assert code_of(server.ask("PUT", "/kill-switch", "reader", json={"stopped": True})) == (403, "missing_scope")
    # A token for one class of actions may stop all of them.
    for token in ("restarter", "operator"):
        assert server.ask("PUT", "/kill-switch", token, json={"stopped": True}).json() == {"stopped": True}
    assert code_of(server.turn(1)) == (503, "stopped")
    refused = server.ask("PUT", "/kill-switch", json={"stopped": False})
    assert code_of(refused) == (403, "missing_scope")
    assert "lacks the scope 'admin'." in refused.json()["detail"]
    assert server.ask("GET", "/health", None).json() == {"ok": True, "stopped": True}
    server.ask("PUT", "/kill-switch", "admin", json={"stopped": False})
    assert server.turn(1).status_code == 200


@pytest.mark.parametrize(
    "given", ["", "component=target&lines=0", "component=target&lines=1001", "component=" + "x" * 101]
)
def test_invalid_log_query_is_rejected(server: Server, given: str) -> None:
    assert code_of(server.ask("GET", f"/logs?{given}", "reader")) == (422, "invalid_input")


@pytest.mark.parametrize("path", ["/components", "/settings/history", "/logs?component=target"])
def test_reading_needs_the_read_scope(server: Server, path: str) -> None:
    assert code_of(server.ask("GET", path, "restarter-only")) == (401, "invalid_token")
    assert code_of(server.ask("GET", path, "blind")) == (403, "missing_scope")


def test_target_that_does_not_answer_is_unhealthy(server: Server) -> None:
    found = server.ask("GET", "/action/verify-target-health").json()

    assert found["is_healthy"] is False
    assert all("Connect" in problem for problem in found["problems"])


@pytest.mark.parametrize(
    "given",
    [
        "", " ", "Bearer", "Bearer ", "Bearer    ", "Bearer \t", "Bearer null", "Bearer {}x", "Bearer x{}", "Bearer {},{}",
        "Bearer \u00fc{}", "Basic {}", "Token {}", "{}", "Bearer\t{}", "bearer=\"{}\"", "Bearer actions_", "Bearer " + "x" * 20_000,
    ],
)  # fmt: skip
def test_similar_token_is_rejected(server: Server, given: str) -> None:
    header = given.replace("{}", server.tokens["admin"]).encode("latin-1")

    refused = server.client.get("/actions", headers={"authorization": header})
    assert code_of(refused) == (401, "invalid_token")
    assert server.tokens["admin"] not in refused.text
    for path in ("/actions?token={}", "/actions?access_token={}", "/actions?authorization=Bearer%20{}"):
        assert code_of(server.client.get(path.replace("{}", server.tokens["admin"]))) == (401, "invalid_token")


def test_request_with_two_credentials_is_rejected(server: Server) -> None:
    reader, admin = (("authorization", f"Bearer {server.tokens[name]}") for name in ("reader", "admin"))

    for pair in ([reader, admin], [admin, reader], [admin, admin]):
        assert code_of(server.client.put("/kill-switch", headers=pair, json={"stopped": True})) == (
            401,
            "invalid_token",
        )
    assert server.ask("GET", "/kill-switch", "reader").json() == {"stopped": False}


def test_token_in_the_url_is_neither_recorded_nor_repeated(server: Server, tmp_path: Path) -> None:
    secret = server.tokens["admin"]

    refused = server.ask("POST", f"/action/turn_valve?component=a&to=1&token={secret}")
    server.turn(1, headers={"Idempotency-Key": "k"})
    assert code_of(refused)[0] == 422
    assert secret not in refused.text
    files = [path for path in tmp_path.iterdir() if path.is_file()]
    assert files
    assert not any(token in path.read_text() for token in server.tokens.values() for path in files)


def test_existence_of_records_is_hidden_from_tokens_without_the_scope(server: Server) -> None:
    record_id = server.turn(1).json()["record"]["record_id"]

    for each in (record_id, "no-such-record"):
        assert code_of(server.ask("POST", f"/records/{each}/undo", "reader")) == (403, "missing_scope")
        assert code_of(server.ask("GET", f"/records/{each}", "blind")) == (403, "missing_scope")


def test_tokens_made_at_the_same_time_are_all_valid(tmp_path: Path) -> None:
    path, count = tmp_path / "tokens.json", 24
    start = threading.Barrier(count)

    def make(number: int) -> str:
        start.wait(30)
        return Tokens(path).make(f"token {number}", ["read"])

    with ThreadPoolExecutor(count) as threads:
        made = list(threads.map(make, range(count)))

    assert [Tokens(path).caller(f"Bearer {token}").name for token in made] == [f"token {n}" for n in range(count)]
    assert {file.name for file in tmp_path.iterdir()} == {"tokens.json", "tokens.json.lock"}
    assert {file.stat().st_mode & 0o777 for file in tmp_path.iterdir()} == {0o600}


def test_token_with_a_known_name_is_rejected_unless_it_replaces_the_older_one(tmp_path: Path) -> None:
    tokens = Tokens(tmp_path / "tokens.json")
    first = tokens.make("ann", ["read"])

    with pytest.raises(TokenExistsError, match="'ann' exists") as caught:
        tokens.make("ann", ["act"])
    assert "--replace" in (caught.value.remedy or "")
    assert tokens.caller(f"Bearer {first}").scopes == {"read"}

    second = tokens.make("ann", ["act"], replace=True)
    assert tokens.caller(f"Bearer {second}").scopes == {"act"}
    with pytest.raises(UnknownActionTokenError):
        tokens.caller(f"Bearer {first}")


def test_one_of_several_tokens_with_the_same_name_is_made(tmp_path: Path) -> None:
    count = 8
    start = threading.Barrier(count)

    def make(_: int) -> str | None:
        start.wait(30)
        try:
            return Tokens(tmp_path / "tokens.json").make("ann", ["read"])
        except TokenExistsError:
            return None

    with ThreadPoolExecutor(count) as threads:
        (made,) = filter(None, threads.map(make, range(count)))

    assert Tokens(tmp_path / "tokens.json").caller(f"Bearer {made}").name == "ann"


@pytest.mark.parametrize("name", ["", "x" * 101, "a\nb", "a\x1b[2Jb", "a\u202eb"])
def test_unstorable_name_is_rejected(tmp_path: Path, name: str) -> None:
    with pytest.raises(WrongTokenNameError):
        Tokens(tmp_path / "tokens.json").make(name, ["read"])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "url",
    [
        "http://ada:hunter2@127.0.0.1:9",
        "http://hunter2@h",
        "ftp://a:hunter2@h",
        "http://a:hunter2@h/?x",
        "http://a:hunter2@",
    ],
)
def test_url_with_a_password_is_rejected_without_repeating_it(url: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        ActionsClient(url, "actions_token")
    assert "hunter2" not in str(refused.value)


@pytest.mark.parametrize("token", ["", " ", "a b", "a\nX-Evil: 1", "t\u00f6ken", "x" * 1_001])
def test_token_invalid_in_a_header_is_rejected_without_repeating_it(token: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        ActionsClient("http://127.0.0.1:9", token)
    assert len(token) < 3 or token not in str(refused.value)

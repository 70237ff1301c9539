"""Access to the API: every route with each scope, other machines, foreign pages, wrong tokens and the ingest secret."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import structlog
from sqlalchemy import text
from starlette.testclient import TestClient

from relab.access.models import Scope, granted
from relab.api.incidents import ALERTS_EXAMPLE
from relab.bootstrap import Services
from relab.server import create_app
from support.api.client import OTLP_PATHS, assert_problem, assert_refusal, loopback_client, running_api
from support.api.routes import Signed, declared_scope, product_routes
from support.flags.contents import document
from support.telemetry.runs import failed_run, minimal_run

on_one_back_end = pytest.mark.parametrize("services", ["sqlite+embedded"], indirect=True)
"""Run a test on one back end, because its request is rejected before any code that differs between back ends."""

REMOTE = {"client_host": "203.0.113.9", "url": "http://relab.example"}


@pytest.fixture
def app_of(make_services: Callable[..., Services]) -> Callable[..., Any]:
    """Return a function that creates the app of an installation from settings."""

    def make(**options: Any) -> Any:
        return create_app(make_services(**options))

    return make


@pytest.fixture
def client(services: Services) -> Iterator[TestClient]:
    with running_api(services) as client:
        yield client


def bearer(token: str) -> dict[str, str]:
    return {"authorization": f"Bearer {token}"}


IDS = {
    "{run_id}": "r",
    "{rca_run_id}": "x",
    "{key}": "f",
    "{version}": "1",
    "{incident_id}": "i",
    "{approval_id}": "a",
    "{rollout_id}": "ro",
    "{build_id}": "bu",
    "{decision_id}": "d",
    "{suggestion_id}": "su",
    "{training_id}": "tr",
    "{behaviour}": "b",
}
BODIES: dict[tuple[str, str], object] = {
    ("POST", "/agent/incidents/i/close"): {"note": "It is repaired."},
    ("POST", "/agent-runs"): minimal_run("r2"),
    ("PUT", "/agent-runs/r/rca-label"): {"category": "timeout"},
    ("PUT", "/agent-runs/r/behaviour-labels/b"): {"is_shown": True},
    **{("POST", path): {} for path in OTLP_PATHS},
    ("POST", "/flags"): {"key": "f", "content": document()},
    ("PUT", "/flags/f"): {"content": document()},
    ("POST", "/flags/f/rollback"): {"version": 1},
    ("POST", "/flags/f/archive"): {},
    ("POST", "/ofrep/v1/evaluate/flags"): {},
    ("POST", "/ofrep/v1/evaluate/flags/f"): {},
    ("POST", "/agent/trigger"): {},
    ("POST", "/agent/approvals/a"): {"approved": True},
    ("POST", "/agent/pause"): {},
    ("POST", "/agent/resume"): {},
    ("POST", "/alerts/alertmanager"): ALERTS_EXAMPLE,
    ("POST", "/rollouts"): {},
    ("POST", "/build-trainings"): {},
    ("POST", "/build-policies/promote"): {"project": "p", "policy": "linucb"},
    ("POST", "/suggest_fix"): {"error": "Out of memory during build"},
    ("POST", "/builds"): {"project": "p", "id": "1"},
    ("POST", "/builds/decisions/d/outcome"): {"status": "success", "duration": 1.9},
    ("POST", "/builds/suggestions/su/verdict"): {"verdict": "accepted"},
}


def filled(path: str) -> str:
    for name, value in IDS.items():
        path = path.replace(name, value)
    return path


def calls() -> list[tuple[str, str, Scope | Signed | None]]:
    """Return `(method, path, scope)` of every route, with example ids in the path."""
    return [
        (method, filled(path), declared_scope(route))
        for route in product_routes()
        for path, methods in [(route.path, route.methods)]
        for method in sorted(methods)
    ]


def test_every_route_requires_its_scope(services: Services) -> None:
    tokens = {scope: services.access.create_token(scope.value, [scope]).token for scope in Scope}
    app = create_app(services)
    with loopback_client(app, **REMOTE) as remote:
        for method, path, wanted in calls():
            body = BODIES.get((method, path))
            without = remote.request(method, path, json=body)
            if wanted is None:
                assert without.status_code == 200, path
                continue
            if isinstance(wanted, Signed):
                # The route accepts signatures instead of tokens; test_slack.py tests them.
                for token in ("", *tokens.values()):
                    assert_problem(remote.request(method, path, json=body, headers=bearer(token)), 404, "slack_off")
                continue
            assert_refusal(without, 401, "missing_token")
            assert without.headers["www-authenticate"] == "Bearer"
            for held, token in tokens.items():
                response = remote.request(method, path, json=body, headers={**bearer(token), "If-Match": "*"})
                if wanted in granted(frozenset({held})):
                    # 409: the previous token's request has already made the change.
                    # 503: no target is watched yet, so the sender must repeat the alert.
                    assert response.status_code in {200, 201, 202, 204, 404, 409, 503}, (path, held)
                else:
                    assert wanted.value in assert_refusal(response, 403, "missing_scope")


SCOPES = {
    ("GET", "/"): None,
    ("GET", "/health"): None,
    ("GET", "/healthz"): None,
    ("GET", "/readyz"): None,
    ("POST", "/agent-runs"): Scope.INGEST,
    ("GET", "/agent-runs"): Scope.READ,
    ("GET", "/agent-runs/r"): Scope.READ,
    ("DELETE", "/agent-runs/r"): Scope.OPERATE,
    ("GET", "/agent-runs/r/timeline"): Scope.READ,
    ("POST", "/agent-runs/r/rca-runs"): Scope.OPERATE,
    ("GET", "/agent-runs/r/rca-runs"): Scope.READ,
    ("GET", "/agent-runs/rca-runs/x"): Scope.READ,
    ("GET", "/rca-runs/x/stream"): Scope.READ,
    ("GET", "/rca/clusters"): Scope.READ,
    ("PUT", "/agent-runs/r/rca-label"): Scope.OPERATE,
    ("GET", "/agent-runs/r/rca-label"): Scope.READ,
    ("DELETE", "/agent-runs/r/rca-label"): Scope.OPERATE,
    ("GET", "/agent-runs/r/behaviour-labels"): Scope.READ,
    ("PUT", "/agent-runs/r/behaviour-labels/b"): Scope.OPERATE,
    ("GET", "/agent-runs/r/behaviour-labels/b"): Scope.READ,
    ("DELETE", "/agent-runs/r/behaviour-labels/b"): Scope.OPERATE,
    ("GET", "/rca/labels"): Scope.READ,
    ("POST", "/v1/traces"): Scope.INGEST,
    ("POST", "/api/public/otel/v1/traces"): Scope.INGEST,
    ("POST", "/v1/logs"): Scope.INGEST,
    ("POST", "/v1/metrics"): Scope.INGEST,
    ("GET", "/agent-runs/r/spans"): Scope.READ,
    ("GET", "/agent-runs/r/logs"): Scope.READ,
    ("GET", "/metrics/overview"): Scope.READ,
    ("GET", "/metrics"): Scope.READ,
    ("GET", "/flags"): Scope.READ,
    ("POST", "/flags"): Scope.OPERATE,
    ("GET", "/flags/f"): Scope.READ,
    ("PUT", "/flags/f"): Scope.OPERATE,
    ("GET", "/flags/f/versions"): Scope.READ,
    ("GET", "/flags/f/versions/1"): Scope.READ,
    ("GET", "/flags/f/diff"): Scope.READ,
    ("POST", "/flags/f/rollback"): Scope.OPERATE,
    ("POST", "/flags/f/archive"): Scope.OPERATE,
    ("POST", "/ofrep/v1/evaluate/flags"): Scope.READ,
    ("POST", "/ofrep/v1/evaluate/flags/f"): Scope.READ,
    ("GET", "/agent/status"): Scope.READ,
    ("POST", "/agent/trigger"): Scope.OPERATE,
    ("GET", "/agent/incidents"): Scope.READ,
    ("GET", "/agent/incidents/i"): Scope.READ,
    ("GET", "/agent/incidents/i/events"): Scope.READ,
    ("GET", "/agent/incidents/i/postmortem"): Scope.READ,
    ("POST", "/agent/incidents/i/dismiss"): Scope.OPERATE,
    ("POST", "/agent/incidents/i/close"): Scope.OPERATE,
    ("POST", "/agent/approvals/a"): Scope.OPERATE,
    ("POST", "/agent/pause"): Scope.OPERATE,
    ("POST", "/agent/resume"): Scope.OPERATE,
    # Alertmanager's token must not allow approvals.
    ("POST", "/alerts/alertmanager"): Scope.INGEST,
    ("POST", "/slack/command"): Signed.BY_SLACK,
    ("POST", "/rollouts"): Scope.OPERATE,
    ("GET", "/rollouts"): Scope.READ,
    ("GET", "/rollouts/ro"): Scope.READ,
    ("GET", "/rollouts/ro/stream"): Scope.READ,
    ("POST", "/rollouts/ro/stop"): Scope.OPERATE,
    ("POST", "/rollouts/ro/apply"): Scope.OPERATE,
    ("POST", "/rollouts/ro/rollback"): Scope.OPERATE,
    ("GET", "/simulate_build"): Scope.READ,
    ("POST", "/simulate_build"): Scope.READ,
    # The route needs `operate`, because it logs a decision.
    ("GET", "/get_best_action"): Scope.OPERATE,
    ("POST", "/get_best_action"): Scope.OPERATE,
    ("POST", "/suggest_fix"): Scope.READ,
    ("POST", "/builds"): Scope.INGEST,
    ("GET", "/builds"): Scope.READ,
    ("GET", "/builds/bu"): Scope.READ,
    ("GET", "/builds/tests"): Scope.READ,
    ("GET", "/builds/groups"): Scope.READ,
    ("POST", "/builds/decisions/d/outcome"): Scope.OPERATE,
    ("GET", "/builds/suggestions"): Scope.READ,
    ("POST", "/builds/suggestions/su/verdict"): Scope.OPERATE,
    ("GET", "/build-policies"): Scope.READ,
    ("POST", "/build-policies/promote"): Scope.OPERATE,
    ("POST", "/build-trainings"): Scope.OPERATE,
    ("GET", "/build-trainings/tr"): Scope.READ,
}


def test_scopes_of_all_routes_are_as_listed() -> None:
    assert {(method, path): scope for method, path, scope in calls()} == SCOPES


FOREIGN = [
    {"host": "evil.example"},
    {"host": "127.0.0.1.evil.example:8000"},
    {"origin": "https://evil.example"},
    {"origin": "null"},
    {"origin": "http://[::1"},
    {"sec-fetch-site": "cross-site"},
    {"origin": "http://localhost:3000", "sec-fetch-site": "same-site"},
]


@on_one_back_end
def test_open_installation_refuses_requests_from_a_foreign_page(client: TestClient) -> None:
    for headers in FOREIGN:
        for method, path, scope in calls():
            if isinstance(scope, Scope):
                response = client.request(method, path, headers=headers, json=minimal_run("evil"))
                assert_refusal(response, 403, "foreign_origin")
    assert_problem(client.get("/agent-runs/evil"), 404)


@on_one_back_end
def test_an_open_installation_refuses_other_machines(services: Services) -> None:
    with loopback_client(create_app(services), client_host="203.0.113.9") as remote:
        for method, path, scope in calls():
            if isinstance(scope, Scope):
                assert_refusal(remote.request(method, path, json=minimal_run("evil")), 403, "foreign_origin")
        spoofed = {"x-forwarded-for": "127.0.0.1", "x-real-ip": "127.0.0.1", "forwarded": "for=127.0.0.1"}
        assert_problem(remote.get("/agent-runs", headers=spoofed), 403, "foreign_origin")


def test_first_token_ends_open_access_of_a_running_installation(client: TestClient, services: Services) -> None:
    assert client.get("/agent-runs").status_code == 200
    made = services.access.create_token("admin", [Scope.ADMIN])

    assert_problem(client.get("/agent-runs"), 401, "missing_token")
    assert client.get("/agent-runs", headers=bearer(made.token)).status_code == 200
    services.access.revoke_token(made.info.token_id)
    assert_problem(client.get("/agent-runs", headers=bearer(made.token)), 401, "invalid_token")
    assert_problem(client.get("/agent-runs"), 401, "missing_token")
    services.access.reopen(by="ada")
    assert client.get("/agent-runs").status_code == 200


def test_wrong_tokens_are_refused_without_being_repeated(client: TestClient) -> None:
    for token in ("nonsense", "relab_x_y", "relab_%00_x", "x" * 20_000, "\u00e9\u00e9\u00e9"):
        for kind in ("Bearer", "bearer"):
            response = client.get("/agent-runs", headers={"authorization": f"{kind} {token}".encode()})

            problem = assert_problem(response, 401, "invalid_token")
            assert token not in problem["detail"]


@on_one_back_end
def test_other_credentials_count_as_a_missing_token(client: TestClient, services: Services) -> None:
    services.access.create_token("ci", [Scope.READ])

    for authorization in ("", "Bearer", "Bearer  ", "Basic dXNlcjpwYXNz", "Token abc"):
        assert_problem(client.get("/agent-runs", headers={"authorization": authorization}), 401, "missing_token")


def test_ingest_secret_is_required_when_it_is_set(app_of: Callable[..., Any]) -> None:
    app = app_of(app_ingest_secret="let me in")
    with loopback_client(app, **REMOTE) as remote:
        missing = remote.post("/agent-runs", json=failed_run("r"))
        wrong = remote.post("/agent-runs", json=failed_run("r"), headers={"X-Ingest-Secret": "let me out"})
        empty = remote.post("/agent-runs", json=failed_run("r"), headers={"X-Ingest-Secret": ""})
        right = remote.post("/agent-runs", json=failed_run("r"), headers={"X-Ingest-Secret": "let me in"})
        reading = remote.get("/agent-runs/r", headers={"X-Ingest-Secret": "let me in"})

    assert "X-Ingest-Secret" in assert_problem(missing, 401, "missing_token")["detail"]
    assert_problem(wrong, 401, "invalid_token")
    assert_problem(empty, 401, "invalid_token")
    assert right.status_code == 201
    assert_problem(reading, 403, "foreign_origin")


@pytest.mark.parametrize("encoding", ["utf-8", "latin-1"])
def test_ingest_secret_may_have_letters_outside_of_ascii(app_of: Callable[..., Any], encoding: str) -> None:
    app = app_of(app_ingest_secret="schlüssel")
    headers = {"X-Ingest-Secret": "schlüssel".encode(encoding)}
    with loopback_client(app, **REMOTE) as remote:
        right = remote.post("/agent-runs", json=failed_run("r"), headers=headers)
        wrong = remote.post("/agent-runs", json=failed_run("r"), headers={"X-Ingest-Secret": "schlussel"})

    assert right.status_code == 201
    assert "ingest secret is not valid" in assert_problem(wrong, 401, "invalid_token")["detail"]


@on_one_back_end
def test_ingest_secret_header_is_ignored_if_no_secret_is_set(client: TestClient) -> None:
    assert client.post("/agent-runs", json=failed_run("r"), headers={"X-Ingest-Secret": "any"}).status_code == 201


def test_secrets_are_in_no_response_no_log_and_no_table(services: Services) -> None:
    made = services.access.create_token("ci", [Scope.READ])
    secret = made.token.split("_", 2)[2]
    answers = []
    with structlog.testing.capture_logs() as logs, running_api(services) as client:
        for headers in (bearer(made.token), bearer(made.token[:-1]), {"X-Ingest-Secret": secret}):
            for path in ("/agent-runs", "/agent-runs/none", "/metrics"):
                response = client.get(path, headers=headers)
                answers.append(response.text + str(response.headers))
        answers.append(client.post("/agent-runs", json={}, headers=bearer(made.token)).text)
    with services.database.read() as session:
        rows = [str(tuple(row)) for row in session.execute(text("SELECT * FROM access_tokens"))]

    assert logs
    for place in [*answers, *map(str, logs), *rows]:
        assert secret[:-1] not in place

"""Behaviour of all routes: request ids, request logs, compression, the OpenAPI document, and health."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import UUID

import jsonschema_rs  # comes with schemathesis
import pytest
import structlog
from anyio import CapacityLimiter, to_thread
from starlette.testclient import TestClient

from relab import __version__
from relab.bootstrap import Services
from relab.storage.migrate import downgrade, upgrade
from support.api.client import OTLP_PATHS, assert_problem, running_api
from support.telemetry.runs import failed_run, minimal_run, step


@pytest.mark.parametrize("given", ["abc", "A-1.2_3:4", "x" * 100])
def test_a_harmless_request_id_is_kept(api: TestClient, given: str) -> None:
    response = api.get("/agent-runs/none", headers={"X-Request-ID": given})

    assert response.headers["x-request-id"] == given
    assert response.json()["request_id"] == given


@pytest.mark.parametrize("given", ["", "a b", "x" * 101, "<b>", "a;b", "a%0ab", "a\tb", "\u00e9", "$(id)"])
def test_a_hostile_request_id_is_replaced(api: TestClient, given: str) -> None:
    response = api.get("/agent-runs/none", headers={"X-Request-ID": given.encode()})

    assert UUID(response.headers["x-request-id"]).version == 7
    assert response.json()["request_id"] == response.headers["x-request-id"]


def test_requests_have_different_ids_also_when_refused(api: TestClient) -> None:
    responses = [
        api.get("/"),
        api.get("/"),
        api.get("/nowhere"),
        api.get("/agent-runs", headers={"host": "evil.example"}),
    ]

    assert len({response.headers["x-request-id"] for response in responses}) == 4


def test_a_request_is_logged_once_with_its_id_and_no_terminal_codes(api: TestClient) -> None:
    with structlog.testing.capture_logs(processors=[structlog.contextvars.merge_contextvars]) as logs:
        api.get("/agent-runs/%1b%5b2J%C2%9B?text=secret-query", headers={"X-Request-ID": "req-1"})

    entries = [entry for entry in logs if entry["event"] == "request"]
    assert len(entries) == 1
    assert entries[0]["request_id"] == "req-1"
    assert entries[0]["method"] == "GET"
    assert entries[0]["status"] == 422
    assert entries[0]["path"] == "/agent-runs/%1B%5B2J%C2%9B"
    assert "secret-query" not in str(entries)


def test_long_responses_are_compressed_if_the_client_accepts_gzip(api: TestClient, run_id: str) -> None:
    api.post("/agent-runs", json=minimal_run(run_id, steps=[step(f"s{number}") for number in range(50)]))
    path = f"/agent-runs/{run_id}/timeline"

    packed = api.get(path, headers={"accept-encoding": "gzip"})
    plain = api.get(path, headers={"accept-encoding": "identity"})

    assert packed.headers["content-encoding"] == "gzip"
    assert "Accept-Encoding" in packed.headers["vary"]
    assert "content-encoding" not in plain.headers
    assert packed.json() == plain.json()
    assert int(packed.headers["content-length"]) < int(plain.headers["content-length"])
    assert "content-encoding" not in api.get("/", headers={"accept-encoding": "gzip"}).headers


def references(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        for name, value in node.items():
            if name == "$ref" and isinstance(value, str):
                yield value
            else:
                yield from references(value)
    elif isinstance(node, list):
        for value in node:
            yield from references(value)


@pytest.fixture(scope="module")
def openapi(api: TestClient) -> dict[str, Any]:
    document: dict[str, Any] = api.get("/openapi.json").json()
    return document


def test_every_reference_of_the_openapi_document_resolves(openapi: dict[str, Any]) -> None:
    found = set(references(openapi))

    assert "#/components/schemas/ProblemDocument" in found
    for reference in found:
        node: Any = openapi
        assert reference.startswith("#/")
        for part in reference[2:].split("/"):
            node = node[part]


def test_example_of_the_openapi_document_is_accepted(api: TestClient, openapi: dict[str, Any]) -> None:
    content = openapi["paths"]["/agent-runs"]["post"]["requestBody"]["content"]["application/json"]
    body = content["example"]

    jsonschema_rs.validate({**content["schema"], "components": openapi["components"]}, body)
    assert api.post("/agent-runs", json=body).status_code == 201


def test_every_operation_is_described_with_its_problems(openapi: dict[str, Any]) -> None:
    for path, operations in openapi["paths"].items():
        for method, operation in operations.items():
            assert operation["summary"], (method, path)
            codes = set(operation["responses"])
            if path not in {"/", "/health", "/healthz", "/readyz"}:
                # Signed requests have no scopes, so this route never responds with 403.
                wanted = {"401", "503"} if path == "/slack/command" else {"401", "403", "503"}
                assert wanted <= codes, (method, path)
            if path in OTLP_PATHS:
                continue  # OTLP has its own format of errors
            for code in codes & {"401", "403", "404", "409", "413", "415", "422", "429"}:
                assert "application/problem+json" in operation["responses"][code]["content"], (method, path, code)


def test_problems_match_their_schema(api: TestClient, openapi: dict[str, Any]) -> None:
    schema = {"$ref": "#/components/schemas/ProblemDocument", "components": openapi["components"]}

    for response in (api.get("/nowhere"), api.post("/agent-runs", json={}), api.get("/agent-runs?limit=0")):
        jsonschema_rs.validate(schema, response.json())


def test_health_routes_report_alive_and_ready(api: TestClient) -> None:
    assert api.get("/healthz").json() == {"status": "ok", "version": __version__}
    assert api.get("/health").json() == api.get("/healthz").json()
    ready = api.get("/readyz")

    assert ready.status_code == 200
    assert ready.json() == {"status": "ok", "checks": {"database": "ok", "schema": "ok", "disk": "ok", "queue": "ok"}}


def test_readiness_ends_when_the_schema_is_outdated(services: Services) -> None:
    with running_api(services) as client:
        downgrade(services.database, "base")
        outdated = client.get("/readyz")
        upgrade(services.database)
        again = client.get("/readyz")

    assert outdated.status_code == 503
    assert outdated.json()["checks"]["database"] == "ok"
    assert outdated.json()["checks"]["schema"] != "ok"
    assert again.status_code == 200


def test_internal_error_shows_no_details(services: Services, monkeypatch: pytest.MonkeyPatch) -> None:
    def crash(*_: object) -> None:
        raise RuntimeError("password=hunter2")

    with running_api(services) as client, structlog.testing.capture_logs() as logs:
        client.post("/agent-runs", json=failed_run("r"))
        monkeypatch.setattr("relab.telemetry.repository.get_run", crash)
        quiet = TestClient(
            client.app, base_url=str(client.base_url), client=("127.0.0.1", 1), raise_server_exceptions=False
        )
        response = quiet.get("/agent-runs/r")

    assert response.status_code == 500
    assert response.headers["content-type"] == "application/problem+json"
    assert "hunter2" not in response.text
    assert json.loads(response.text)["request_id"]
    assert [entry["event"] for entry in logs if entry["log_level"] == "error"] == ["request_crashed"]


def test_response_headers_do_not_repeat_a_foreign_host(api: TestClient) -> None:
    response = api.get("/agent-runs/", headers={"host": "evil.example"})

    assert_problem(response, 404)
    assert "evil.example" not in str(response.headers)


def test_liveness_is_answered_while_all_threads_wait(api: TestClient) -> None:
    portal, release = api.portal, threading.Event()
    assert portal is not None
    limiter = portal.call(_thread_limiter)
    threads, limiter.total_tokens = limiter.total_tokens, 1
    waiting = portal.start_task_soon(_wait_in_thread, release)
    with ThreadPoolExecutor(1) as clients:
        answers = clients.submit(lambda: [api.get(path).status_code for path in ("/", "/healthz", "/health")])
        try:
            assert answers.result(timeout=30) == [200, 200, 200]
        finally:
            release.set()
            waiting.result()
            limiter.total_tokens = threads


async def _thread_limiter() -> CapacityLimiter:
    return to_thread.current_default_thread_limiter()


async def _wait_in_thread(release: threading.Event) -> None:
    await to_thread.run_sync(release.wait)

"""The page and the document that describe the API: access, files, security headers and allowed methods."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from starlette.testclient import TestClient

from relab.access.models import Scope
from relab.bootstrap import Services
from relab.server import create_app
from support.api.client import assert_problem, loopback_client, running_api
from support.api.routes import declared_scope, product_routes
from support.telemetry.runs import minimal_run

PATHS = ("/docs", "/docs/start.js", "/docs/swagger-ui.css", "/docs/swagger-ui-bundle.js", "/openapi.json")


@pytest.fixture
def installation(make_services: Callable[..., Services]) -> Services:
    return make_services()


@pytest.fixture
def client(installation: Services) -> Iterator[TestClient]:
    with running_api(installation) as client:
        yield client


def basic(password: str, user: str = "anybody") -> dict[str, str]:
    return {"authorization": "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()}


def bearer(token: str) -> dict[str, str]:
    return {"authorization": f"Bearer {token}"}


def test_page_sends_no_requests_to_other_servers(client: TestClient) -> None:
    page = client.get("/docs")
    used = re.findall(r'(?:src|href)="([^"]+)"', page.text)

    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert "//" not in page.text.replace("<!doctype", "")
    assert sorted(used) == ["data:,", "docs/start.js", "docs/swagger-ui-bundle.js", "docs/swagger-ui.css"]
    for name in used[1:]:
        file = client.get(f"/{name}")
        assert file.status_code == 200
        assert file.headers["content-type"].split(";")[0] == ("text/css" if name.endswith("css") else "text/javascript")
    assert "Licensed under" not in page.text
    assert "SwaggerUIBundle" in client.get("/docs/swagger-ui-bundle.js").text
    assert "script-src 'self'" in page.headers["content-security-policy"]
    assert "unsafe-inline" not in page.headers["content-security-policy"].partition("script-src")[2].partition(";")[0]


@pytest.mark.parametrize("path", ["/redoc", "/docs/oauth2-redirect", "/docs/../app.py", "/docs/LICENSE", "/docs/"])
def test_other_files_beside_the_page_are_not_found(client: TestClient, path: str) -> None:
    assert_problem(client.get(path), 404)


def test_the_description_needs_a_token_where_tokens_are_needed(client: TestClient, installation: Services) -> None:
    assert [client.get(path).status_code for path in PATHS] == [200] * len(PATHS)
    reader, poster = (
        installation.access.create_token(scope.value, [scope]).token for scope in (Scope.READ, Scope.INGEST)
    )

    for path in PATHS:
        without = client.get(path)
        assert_problem(without, 401, "missing_token")
        # This header makes a browser ask its user for a password.
        assert without.headers["www-authenticate"].startswith("Basic realm=")
        for headers in (basic(reader), basic(f" {reader}", user=""), bearer(reader)):
            assert client.get(path, headers=headers).status_code == 200
        for headers in (basic(poster), bearer(poster)):
            assert_problem(client.get(path, headers=headers), 403, "missing_scope")
        for password in (reader[:-1], "relab__", "\u00fc", ":", reader + ":"):
            assert_problem(client.get(path, headers=basic(password)), 401, "invalid_token")
        for value in ("Basic", "Basic %%%", "Basic " + "A" * 10_001, "Basic /w==", basic("")["authorization"]):
            assert_problem(client.get(path, headers={"authorization": value}), 401, "missing_token")


def test_other_routes_do_not_accept_basic_authentication(client: TestClient, installation: Services) -> None:
    token = installation.access.create_token("admin", [Scope.ADMIN]).token

    assert_problem(client.get("/agent-runs", headers=basic(token)), 401, "missing_token")
    answer = client.post("/agent-runs", json=minimal_run("r"), headers=basic(token))
    assert answer.headers["www-authenticate"] == "Bearer"
    assert_problem(answer, 401, "missing_token")


LANGFUSE = "/api/public/otel/v1/traces"


def test_langfuses_sdks_send_a_token_as_their_secret_key(client: TestClient, installation: Services) -> None:
    reader, poster = (
        installation.access.create_token(scope.value, [scope]).token for scope in (Scope.READ, Scope.INGEST)
    )
    key = "pk-lf-1"

    for headers in (basic(poster, user=key), bearer(poster)):
        assert client.post(LANGFUSE, json={}, headers=headers).status_code == 200
    assert client.post(LANGFUSE, json={}, headers=basic(reader, user=key)).status_code == 403
    assert client.post(LANGFUSE, json={}, headers=basic("sk-lf-1", user=key)).status_code == 401
    assert client.post(LANGFUSE, json={}).status_code == 401


def test_langfuses_sdks_send_any_keys_while_no_token_is_needed(installation: Services) -> None:
    keys = basic("sk-lf-1", user="pk-lf-1")

    with running_api(installation) as here:
        assert here.post(LANGFUSE, json={}, headers=keys).status_code == 200
    with loopback_client(create_app(installation), client_host="203.0.113.9") as remote:
        assert remote.post(LANGFUSE, json={}, headers=keys).status_code == 403


def test_other_machines_are_refused_the_description_of_an_open_installation(installation: Services) -> None:
    with loopback_client(create_app(installation), client_host="203.0.113.9") as remote:
        for path in PATHS:
            assert_problem(remote.get(path), 403, "foreign_origin")


def test_document_names_the_credentials_of_each_route(make_services: Callable[..., Services]) -> None:
    services = make_services(app_ingest_secret="let me in")
    by_route = {
        (method.lower(), route.path): declared_scope(route) for route in product_routes() for method in route.methods
    }

    def taken(client: TestClient, headers: dict[str, str] | None = None) -> dict[tuple[str, str], Any]:
        paths = client.get("/openapi.json", headers=headers).json()["paths"]
        return {
            (method, path): [next(iter(each)) for each in entry.get("security", [])]
            for path, methods in paths.items()
            for method, entry in methods.items()
        }

    with running_api(services) as client:
        opened = taken(client)
        token = services.access.create_token("reader", [Scope.READ]).token
        closed = taken(client, bearer(token))

    assert set(opened) == set(closed) == set(by_route)
    for route, scope in by_route.items():
        if scope is Scope.INGEST:
            assert opened[route] == closed[route] == ["token", "ingestSecret"]
        else:
            assert opened[route] == []
            assert closed[route] == (["token"] if isinstance(scope, Scope) else [])


def test_every_response_has_security_headers(installation: Services) -> None:
    app = create_app(installation)

    @app.get("/breaks")
    def breaks() -> None:
        raise RuntimeError("a bug")

    with TestClient(app, base_url="http://127.0.0.1", client=("127.0.0.1", 1), raise_server_exceptions=False) as client:
        answers = [
            *(client.get(path) for path in ("/", "/docs", "/agent-runs", "/metrics", "/none", "/breaks")),
            client.get("/agent-runs", headers={"host": "evil.example"}),
            client.get("/agent-runs?limit=0"),
            client.put("/agent-runs"),
            client.options("/agent-runs"),
            client.post("/agent-runs", content=b"x", headers={"content-length": "9" * 12}),
            client.post("/v1/traces", content=b"{", headers={"content-type": "application/json"}),
        ]

    assert {answer.status_code for answer in answers} >= {200, 204, 403, 404, 405, 413, 422, 500}
    for answer in answers:
        assert answer.headers["x-content-type-options"] == "nosniff", answer.request.url
        assert answer.headers["referrer-policy"] == "no-referrer"
        assert answer.headers["content-security-policy"].startswith("default-src 'none'; ")
        assert answer.headers["content-security-policy"].count("frame-ancestors 'none'") == 1


def test_options_and_405_name_all_methods_of_a_path(client: TestClient) -> None:
    methods: dict[str, set[str]] = {}
    for route in product_routes():
        methods.setdefault(route.path, {"OPTIONS"}).update(route.methods)
    assert any(len(each) > 2 for each in methods.values())

    for path, expected in methods.items():
        filled = re.sub(r"\{[a-z_]+\}", "x", path)
        asked = client.options(filled, headers={"origin": "https://evil.example"})
        refused = client.request("PATCH", filled)
        assert asked.status_code == 204
        assert asked.content == b""
        assert refused.status_code == 405
        assert "access-control-allow-origin" not in asked.headers
        for answer in (asked, refused):
            assert set(answer.headers["allow"].split(", ")) == expected, path
    assert_problem(client.options("/none"), 404, "route_not_found")

"""Generated requests and mutated bodies for every API route: no 5xx, and responses that match the description.

PostgreSQL rejects values that SQLite accepts, so everything runs on both.
"""

from __future__ import annotations

import copy
import functools
import itertools
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import pytest
import schemathesis
from fastapi.routing import APIRoute
from hypothesis import assume, given, seed
from hypothesis import strategies as st
from schemathesis import GenerationMode
from schemathesis.config import SchemathesisConfig
from starlette.testclient import TestClient

import relab
from relab.api.examples import AGENT_RUN_EXAMPLE
from relab.bootstrap import Services, build
from relab.server import create_app
from relab.settings import load_settings
from rig.servers import PostgresServer
from support.api.client import loopback_client, run_jobs
from support.api.routes import product_routes
from support.lab.process import SETTING_NAMES
from support.storage.migrated import create_migrated, migrate
from support.telemetry.runs import RunBody, agent_runs, examples, failed_run

# A responder handles triggered incidents in the background: LangGraph draws checkpoint ids from the global generator.
# Hypothesis attributes these draws to a strategy.
pytestmark = pytest.mark.filterwarnings(
    "ignore:Do not use the .random. module inside strategies:hypothesis.errors.HypothesisDeprecationWarning"
)
_numbers = itertools.count()
MAX_QUERY_BYTES = 65_536
CONFIG = Path(relab.__file__).parent.parent.parent / "schemathesis.toml"


def modes_of(route: APIRoute) -> list[GenerationMode]:
    """Return the generation modes of a route: positive, and negative only if the route takes input."""
    takes_input = route.dependant.path_params or route.dependant.query_params or "POST" in (route.methods or ())
    return [GenerationMode.POSITIVE, GenerationMode.NEGATIVE] if takes_input else [GenerationMode.POSITIVE]


OPERATIONS = [
    pytest.param(method, route.path, mode, id=f"{method} {route.path} {mode.value}")
    for route in sorted(product_routes(), key=lambda route: route.path)
    for method in sorted(route.methods)
    for mode in modes_of(route)
]


@pytest.fixture(scope="module", params=["sqlite", "postgres"])
def fuzzed(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Services]:
    """An installation that all examples of this file share and fill."""
    # No server answers at this target, so triggered incidents are only stored.
    nobody = "http://127.0.0.1:9"
    options: dict[str, object] = {
        "target_api_base_url": nobody,
        "action_server_url": nobody,
        "action_server_token": "t",
        "poll_interval_seconds": 300.0,
    }
    if request.param == "postgres":
        postgres: PostgresServer = request.getfixturevalue("postgres")
        options |= {"database_url": create_migrated(postgres, f"fuzz_{os.getpid()}_{next(_numbers)}")}
    with pytest.MonkeyPatch.context() as environment:
        for name in [name for name in os.environ if name.startswith("RELAB_") or name in SETTING_NAMES]:
            environment.delenv(name)
        services = build(load_settings(tmp_path_factory.mktemp("home"), **options))
    migrate(services.database)
    yield services
    services.close()


@pytest.fixture(scope="module")
def client(fuzzed: Services) -> Iterator[TestClient]:
    with loopback_client(create_app(fuzzed)) as client:
        client.post("/agent-runs", json=failed_run("known"))
        client.post("/agent-runs/known/rca-runs")
        run_jobs(fuzzed)
        yield client


def send(client: TestClient, case: Any) -> Any:
    """Send a case of schemathesis through the test client."""
    request = case.as_transport_kwargs(base_url="http://127.0.0.1:8000")
    headers = {
        name: str(value).encode("latin-1", "replace")
        for name, value in (request["headers"] or {}).items()
        # These tests call from this machine; other tests cover other callers.
        if name.lower() not in {"host", "authorization", "cookie", "origin", "user-agent"}
    }
    content = None
    if "json" in request:
        content = json.dumps(request["json"]).encode()
        headers.setdefault("Content-Type", b"application/json")
    elif request.get("data") is not None:
        data = request["data"]
        content = data if isinstance(data, bytes) else str(data).encode()
    params = {name: value for name, value in (request["params"] or {}).items() if value is not None}
    # The client cannot send a longer query.
    assume(len(urlencode(params, doseq=True, errors="replace")) < MAX_QUERY_BYTES)
    return client.request(request["method"], request["url"], params=params, headers=headers, content=content)


@functools.cache
def schema_of(description: str) -> Any:
    """Return schemathesis's schema of a JSON description; it is cached, so that all tests share what it computes."""
    return schemathesis.openapi.from_dict(json.loads(description), config=SchemathesisConfig.from_path(CONFIG))


@pytest.fixture(scope="module")
def schema(client: TestClient) -> Any:
    """The schema of the client's API, the same object for both databases."""
    return schema_of(json.dumps(client.app.openapi()))  # type: ignore[attr-defined]


def check_operation(client: TestClient, schema: Any, method: str, path: str, mode: GenerationMode, count: int) -> None:
    @seed(20_240_115)
    @examples(count)
    @given(case=schema[path][method].as_strategy(generation_mode=mode))
    def check(case: Any) -> None:
        response = send(client, case)
        assert response.status_code < 500
        # All checks run, also that valid requests are accepted and that `Allow` lists every method.
        case.validate_response(response)

    check()


@pytest.mark.parametrize(("method", "path", "mode"), OPERATIONS)
def test_responses_match_the_api_description(
    client: TestClient, schema: Any, method: str, path: str, mode: GenerationMode
) -> None:
    check_operation(client, schema, method, path, mode, 2)


@pytest.mark.full
@pytest.mark.timeout(600)
@pytest.mark.parametrize(("method", "path", "mode"), OPERATIONS)
def test_responses_match_the_api_description_at_length(
    client: TestClient, schema: Any, method: str, path: str, mode: GenerationMode
) -> None:
    check_operation(client, schema, method, path, mode, 60)


# Values that often break parsers, databases or arithmetic.
ODDITIES: list[Any] = [
    None, True, False, 0, -1, 1, 2**31, 2**63 - 1, 2**63, -(2**63) - 1, 2**64, 10**300, 0.0, -0.0, 1e308, 5e-324, 1.5,
    "", " ", "0", "\u0000", "\u0001", "\u001b[2J", "\u007f", "\u009b", "\u2028", "\u202e", "\ufeff", "\uffff",
    "\U0010ffff", "İ", "ß", "e\u0301", "a" * 201, "a" * 1_001, "x" * 50_000, "%", "_", "'", '"', "\\", "/", "..", "rca-runs",
    "{}", "$ref", "__proto__", "2024-01-15", "2024-01-15T10:30:00", "2024-W03-1", "20240115T103000Z", "1970-01-01T00:00:00Z",
    "2199-12-31T23:59:59.999999Z", "0001-01-01T00:00:00Z", "9999-12-31T23:59:59.999999-23:59", "2024-02-30T00:00:00Z",
    "success", "failure", [], [[]], {}, [None], {"": None}, {"a": {"b": [1, {"c": None}]}}, [1] * 1_000,
]  # fmt: skip


def places(node: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield path
    if isinstance(node, dict):
        for name, value in node.items():
            yield from places(value, (*path, name))
    elif isinstance(node, list):
        for index, value in enumerate(node):
            yield from places(value, (*path, index))


@st.composite
def mutated(draw: st.DrawFn, body: RunBody) -> Any:
    """Change, drop, duplicate or rename one to three places of a valid body."""
    changed: Any = copy.deepcopy(body)
    for _ in range(draw(st.integers(1, 3))):
        path = draw(st.sampled_from(list(places(changed))))
        if not path:
            continue
        parent = changed
        for part in path[:-1]:
            parent = parent[part]
        what = draw(st.sampled_from(["replace", "replace", "replace", "drop", "duplicate", "add"]))
        if what == "drop":
            del parent[path[-1]]
        elif what == "duplicate" and isinstance(parent, list):
            parent.append(copy.deepcopy(parent[path[-1]]))
        elif what == "add" and isinstance(parent, dict):
            parent[draw(st.sampled_from([item for item in ODDITIES if isinstance(item, str)]))] = draw(
                st.sampled_from(ODDITIES)
            )
        else:
            parent[path[-1]] = copy.deepcopy(draw(st.sampled_from(ODDITIES)))
    return changed


def check_body(client: TestClient, raw: bytes) -> None:
    """Assert that the API stores a body whole and can show it, or rejects it with a problem document."""
    response = client.post("/agent-runs", content=raw, headers={"content-type": "application/json"})
    if response.status_code not in {200, 201}:
        assert response.status_code in {413, 422}, response.text
        problem = response.json()
        assert problem["detail"]
        assert problem["type"] == "urn:relab:problem:malformed_body" or problem["errors"]
        return
    run_id = response.json()["run_id"]
    if "%" in run_id:
        return  # this client would unquote it twice
    path = f"/agent-runs/{quote(run_id, safe='')}"
    assert client.get(path).json()["counts"] == response.json()["counts"]
    assert client.get(f"{path}/timeline").json()["total"] == sum(response.json()["counts"].values())


def check_mutations(client: TestClient, fuzzed: Services, count: int) -> None:
    bases = st.one_of(st.sampled_from([failed_run("mutant"), AGENT_RUN_EXAMPLE]), agent_runs(max_items=2))

    @seed(20_240_115)
    @examples(count)
    @given(data=st.data())
    def check(data: st.DataObject) -> None:
        body = data.draw(mutated(data.draw(bases)))
        check_body(client, json.dumps(body).encode())

    check()
    assert client.get("/metrics/overview", params={"hours": 10_000_000}).status_code == 200
    assert client.get("/metrics").status_code == 200


def test_mutated_bodies_are_stored_or_refused(client: TestClient, fuzzed: Services) -> None:
    check_mutations(client, fuzzed, 60)


@pytest.mark.full
@pytest.mark.timeout(600)
def test_mutated_bodies_are_stored_or_refused_at_length(client: TestClient, fuzzed: Services) -> None:
    check_mutations(client, fuzzed, 1_500)


def check_bytes(client: TestClient, count: int) -> None:
    valid = json.dumps(failed_run("bytes")).encode()

    @seed(20_240_115)
    @examples(count)
    @given(
        position=st.integers(0, len(valid)),
        cut=st.integers(0, 20),
        inserted=st.binary(max_size=8),
    )
    def check(position: int, cut: int, inserted: bytes) -> None:
        check_body(client, valid[:position] + inserted + valid[position + cut :])

    check()


def test_damaged_bytes_are_stored_or_refused(client: TestClient) -> None:
    check_bytes(client, 60)


@pytest.mark.full
@pytest.mark.timeout(600)
def test_damaged_bytes_are_stored_or_refused_at_length(client: TestClient) -> None:
    check_bytes(client, 2_000)


def test_any_stored_run_can_be_shown_and_analysed(client: TestClient, fuzzed: Services) -> None:
    @seed(7)
    @examples(8)
    @given(body=agent_runs(max_items=4))
    def check(body: RunBody) -> None:
        run_id = f"analysed-{next(_numbers)}"
        assert client.post("/agent-runs", json={**body, "run_id": run_id}).status_code == 201
        rca_run_id = client.post(f"/agent-runs/{run_id}/rca-runs").json()["rca_run_id"]
        run_jobs(fuzzed)
        rca_run = client.get(f"/agent-runs/rca-runs/{rca_run_id}").json()
        assert rca_run["status"] == "done"
        assert rca_run["error"] is None

    check()

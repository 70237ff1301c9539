"""Invalid requests: each gets a 4xx problem document that names the field, and nothing is stored."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from typing import Any

import pytest
from starlette.testclient import TestClient

from relab.bootstrap import Services
from support.api.client import assert_problem, fields_of
from support.telemetry.runs import failed_run, guardrail_event, minimal_run, step, time_text, tool_call

JSON = {"content-type": "application/json"}


def stored(api: TestClient, installation: Services) -> tuple[list[Any], int]:
    """Return all runs and the number of pending jobs."""
    return api.get("/agent-runs", params={"limit": 500}).json()["items"], installation.queue.counts().pending


@pytest.fixture(scope="module")
def stored_at_first(api: TestClient, installation: Services) -> tuple[list[Any], int]:
    """What is stored before the first test, which is also stored after each one."""
    assert api.post("/agent-runs", json=failed_run("kept")).status_code == 201
    return stored(api, installation)


@pytest.fixture(autouse=True)
def nothing_is_stored(
    api: TestClient, installation: Services, stored_at_first: tuple[list[Any], int]
) -> Iterator[None]:
    yield
    assert stored(api, installation) == stored_at_first


def raw_with(**fields: Any) -> bytes:
    return json.dumps(minimal_run(**fields)).encode()


@pytest.mark.parametrize(
    "raw",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"   ", id="blanks"),
        pytest.param(b"{", id="cut short"),
        pytest.param(b"run_id=1", id="a form"),
        pytest.param(raw_with() + raw_with(), id="two documents"),
        pytest.param(raw_with().replace(b"shop", b"\xff"), id="not utf-8"),
        pytest.param(raw_with().decode().encode("utf-16"), id="utf-16"),
        pytest.param(b"\xef\xbb\xbf" + raw_with(), id="byte order mark"),
        pytest.param(raw_with(x="\x00"), id="NUL"),
        pytest.param(raw_with(**{"x\x00": 1}), id="NUL in a key"),
        pytest.param(raw_with(x="\ud800"), id="lone surrogate"),
        pytest.param(b'{"x":' + b"[" * 100_000 + b"]" * 100_000 + b"}", id="deep nesting"),
        pytest.param(b"[" * 1_000_000, id="bottomless nesting"),
        pytest.param(raw_with()[:-1] + b',"run_id":"other"}', id="duplicate key"),
        pytest.param(raw_with(x=float("inf")), id="infinity"),
        pytest.param(raw_with(x=float("nan")), id="nan"),
        pytest.param(raw_with()[:-1] + b',"x":1e999}', id="overflowing number"),
        pytest.param(raw_with()[:-1] + b',"x":' + b"9" * 5_000 + b"}", id="endless integer"),
    ],
)
def test_invalid_json_is_malformed(api: TestClient, raw: bytes) -> None:
    assert_problem(api.post("/agent-runs", content=raw, headers=JSON), 422, "malformed_body")


@pytest.mark.parametrize(
    ("body", "field"),
    [
        pytest.param([minimal_run()], "body", id="a list"),
        pytest.param("run", "body", id="a string"),
        pytest.param(minimal_run(run_id="a/b"), "run_id", id="slash in the id"),
        pytest.param(minimal_run(run_id=".."), "run_id", id="dots as id"),
        pytest.param(minimal_run(run_id="x" * 201), "run_id", id="long id"),
        pytest.param(minimal_run(run_id="a\tb"), "run_id", id="control character in the id"),
        pytest.param(minimal_run(started_at="0001-01-01T00:00:00Z"), "started_at", id="year 1"),
        pytest.param(minimal_run(started_at="3000-01-01T00:00:00Z"), "started_at", id="year 3000"),
        pytest.param(minimal_run(started_at=1_705_314_600), "started_at", id="number for a time"),
        pytest.param(minimal_run(status="odd"), "status", id="unknown status"),
        pytest.param(minimal_run(ended_at=time_text(-1)), "body", id="run ended before it started"),
        pytest.param(minimal_run(steps=[step("s", 2, ended_at=time_text(1))]), "steps.0", id="step ended before"),
        pytest.param(minimal_run(steps=[step("s", latency_ms=-1)]), "steps.0.latency_ms", id="negative latency"),
        pytest.param(minimal_run(steps=[step("s", retries=2**63)]), "steps.0.retries", id="huge integer"),
        pytest.param(minimal_run(steps=[step("s"), step("s")]), "steps.step_id", id="step twice"),
        pytest.param(minimal_run(tool_calls=[tool_call("c")] * 2), "tool_calls.call_id", id="call twice"),
        pytest.param(
            minimal_run(guardrail_events=[guardrail_event("g")] * 2), "guardrail_events.event_id", id="event twice"
        ),
        pytest.param(minimal_run(tool_calls=[tool_call("c", step_id="a/b")]), "tool_calls.0.step_id", id="step id"),
        pytest.param(minimal_run(cost={"total_cost_usd": "1"}), "cost.total_cost_usd", id="text for a number"),
        pytest.param({"run_id": "r"}, "agent_name", id="missing field"),
    ],
)
def test_problem_names_the_invalid_field(api: TestClient, body: Any, field: str) -> None:
    problem = assert_problem(api.post("/agent-runs", json=body), 422, "invalid_agent_run")

    assert field in fields_of(problem)
    assert field in problem["detail"]


def test_run_with_one_invalid_part_is_not_stored(api: TestClient) -> None:
    body = failed_run("half-good")
    body["guardrail_events"].append(guardrail_event("g2", created_at="never"))

    problem = assert_problem(api.post("/agent-runs", json=body), 422)

    assert fields_of(problem) == ["guardrail_events.1.created_at"]
    assert_problem(api.get("/agent-runs/half-good"), 404)


def test_a_bad_update_leaves_the_run_as_it_was(api: TestClient) -> None:
    body = failed_run("kept")
    before = api.get("/agent-runs/kept").json()

    assert_problem(api.post("/agent-runs", json={**body, "steps": [step("s1", latency_ms=-1)]}), 422)

    assert api.get("/agent-runs/kept").json() == before
    assert api.get("/agent-runs/kept/timeline").json()["total"] == 4


def test_problem_document_for_thousands_of_mistakes_is_short(api: TestClient) -> None:
    keys = [f"c{number}" for number in range(2_000)]
    response = api.post("/agent-runs", json=minimal_run(tool_calls=[tool_call(key) for key in keys + keys]))

    problem = assert_problem(response, 422)
    assert 0 < len(problem["errors"]) <= 50


@pytest.mark.parametrize(
    "media_type",
    ["text/plain", "application/x-www-form-urlencoded", "application/xml", "json", "image/png+json", "x" * 9_000],
)
def test_other_content_types_are_rejected(api: TestClient, media_type: str) -> None:
    response = api.post("/agent-runs", content=raw_with(), headers={"content-type": media_type})

    assert_problem(response, 415, "unsupported_media_type")
    assert len(response.content) < 2_000


@pytest.mark.parametrize("encoding", ["br", "snappy", "gzip, gzip", "x" * 500])
def test_other_content_encodings_are_rejected(api: TestClient, encoding: str) -> None:
    response = api.post("/agent-runs", content=raw_with(), headers={**JSON, "content-encoding": encoding})

    assert_problem(response, 415, "unsupported_media_type")


@pytest.mark.parametrize(
    "packed",
    [
        pytest.param(raw_with(), id="not gzip"),
        pytest.param(b"", id="nothing"),
        pytest.param(gzip.compress(raw_with())[:-9], id="cut short"),
        pytest.param(gzip.compress(raw_with())[:-1] + b"\x01", id="wrong length"),
        pytest.param(gzip.compress(raw_with()) + b"more", id="followed by more"),
        pytest.param(gzip.compress(raw_with()) * 2, id="two members"),
        pytest.param(gzip.compress(b"\xff"), id="not json inside"),
    ],
)
def test_gzip_that_is_not_whole_is_malformed(api: TestClient, packed: bytes) -> None:
    response = api.post("/agent-runs", content=packed, headers={**JSON, "content-encoding": "gzip"})

    assert_problem(response, 422, "malformed_body")


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ({"limit": 0}, "query.limit"),
        ({"limit": 501}, "query.limit"),
        ({"limit": "x"}, "query.limit"),
        ({"limit": 10**30}, "query.limit"),
        ({"status": "odd"}, "query.status"),
        ({"started_after": "soon"}, "query.started_after"),
        ({"started_before": "9999-12-31T00:00:00Z"}, "query.started_before"),
        ({"text": "\x00"}, "query.text"),
        ({"agent": "\x00"}, "query.agent"),
        ({"category": "x" * 1_001}, "query.category"),
        ({"cursor": "x" * 1_001}, "query.cursor"),
        ({"cursor": "bogus"}, "cursor"),
    ],
)
def test_problem_names_the_invalid_query_parameter(api: TestClient, query: dict[str, Any], field: str) -> None:
    problem = assert_problem(api.get("/agent-runs", params=query), 422)

    assert fields_of(problem) == [field]


@pytest.mark.parametrize("hours", ["0", "-1", "nan", "inf", "-inf", "x", "1e300"])
def test_a_window_is_a_positive_finite_number(api: TestClient, hours: str) -> None:
    problem = assert_problem(api.get("/metrics/overview", params={"hours": hours}), 422)

    assert fields_of(problem) == ["query.hours"]


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("PUT", "/agent-runs", 405),
        ("PATCH", "/agent-runs/x", 405),
        ("POST", "/metrics/overview", 405),
        ("BREW", "/agent-runs", 405),
        ("GET", "/nowhere", 404),
        ("GET", "/agent-runs/", 404),
        ("GET", "/agent-runs/a/b/c", 404),
        ("GET", "//evil.example/", 404),
    ],
)
def test_unknown_routes_and_methods_get_problem_documents(api: TestClient, method: str, path: str, status: int) -> None:
    assert_problem(api.request(method, f"http://127.0.0.1:8000{path}"), status)

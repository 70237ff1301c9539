"""The API of agent runs: they are posted, updated, shown and deleted alike on both kinds of installation."""

from __future__ import annotations

import gzip
import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import quote

import anyio
import httpx
import pytest
from starlette.testclient import TestClient

from relab.bootstrap import Services
from support.api.client import LOOPBACK_URL, assert_problem, fields_of, run_jobs
from support.telemetry.runs import failed_run, minimal_run, step, tool_call


def test_root_has_the_response_of_the_seed(api: TestClient) -> None:
    response = api.get("/")

    assert response.status_code == 200
    assert response.json() == {"status": "ok", "service": "agentops-smart-sre"}


def test_a_new_run_is_created_and_a_known_one_updated(api: TestClient, run_id: str) -> None:
    first = api.post("/agent-runs", json=failed_run(run_id))
    same = api.post("/agent-runs", json=failed_run(run_id))
    changed = api.post("/agent-runs", json=failed_run(run_id, error_message="another"))

    counts = {"steps": 2, "tool_calls": 1, "guardrail_events": 1}
    assert first.status_code == 201
    assert same.status_code == 200
    assert changed.status_code == 200
    assert first.json() == {
        "run_id": run_id,
        "created": True,
        "content_hash": first.json()["content_hash"],
        "counts": counts,
    }
    assert same.json() == {**first.json(), "created": False}
    assert changed.json()["content_hash"] != first.json()["content_hash"]


def test_an_update_replaces_the_run_whole(api: TestClient, run_id: str) -> None:
    api.post("/agent-runs", json=failed_run(run_id, task_id="t", only_before=1))
    api.post("/agent-runs", json=minimal_run(run_id, tool_calls=[tool_call("c1"), tool_call("c9")]))

    shown = api.get(f"/agent-runs/{run_id}").json()
    assert shown["counts"] == {"steps": 0, "tool_calls": 2, "guardrail_events": 0}
    assert shown["error_type"] is None
    assert shown["task_id"] is None
    assert shown["cost"] is None
    assert shown["status"] == "success"
    assert "only_before" not in shown
    items = api.get(f"/agent-runs/{run_id}/timeline").json()["items"]
    assert [(item["ref_id"], item["status"]) for item in items] == [("c1", "success"), ("c9", "success")]


def test_a_run_is_shown_with_its_fields_and_counts(api: TestClient, run_id: str) -> None:
    body = failed_run(run_id, prompt_hash="p1", task_id="t1", team={"name": "billing", "on_call": [1, None, True]})
    receipt = api.post("/agent-runs", json=body).json()

    shown = api.get(f"/agent-runs/{run_id}").json()

    lists = ("steps", "tool_calls", "guardrail_events")
    assert {name: shown[name] for name in body if name not in lists} == {
        name: value for name, value in body.items() if name not in lists
    }
    assert shown["counts"] == {"steps": 2, "tool_calls": 1, "guardrail_events": 1}
    assert shown["content_hash"] == receipt["content_hash"]
    assert shown["source"] == "json"
    assert shown["category"] is None
    assert shown["received_at"] == shown["updated_at"]
    assert not set(lists) & set(shown)


def test_unknown_fields_come_back_on_every_level(api: TestClient, run_id: str) -> None:
    body = failed_run(run_id, x_run=[{"deep": [[1.5, "ü"]]}])
    body["steps"][0]["x_step"] = {"": None}
    body["tool_calls"][0]["x_call"] = 2**70
    body["guardrail_events"][0]["x_event"] = "\u2028"
    body["cost"]["x_cost"] = True
    api.post("/agent-runs", json=body)

    shown = api.get(f"/agent-runs/{run_id}").json()
    items = {item["ref_id"]: item["data"] for item in api.get(f"/agent-runs/{run_id}/timeline").json()["items"]}

    assert shown["x_run"] == body["x_run"]
    assert shown["cost"] == body["cost"]
    assert items["s1"] == body["steps"][0]
    assert items["c1"] == body["tool_calls"][0]
    assert items["g1"] == body["guardrail_events"][0]


def test_unknown_field_never_replaces_a_known_one(api: TestClient, run_id: str) -> None:
    claims = {"counts": {"steps": 99}, "category": "timeout", "content_hash": "x", "source": "otlp", "received_at": 1}
    api.post("/agent-runs", json=minimal_run(run_id, **claims))

    shown = api.get(f"/agent-runs/{run_id}").json()

    assert shown["counts"] == {"steps": 0, "tool_calls": 0, "guardrail_events": 0}
    assert shown["category"] is None
    assert shown["source"] == "json"
    assert shown["content_hash"].startswith("sha256:")


@pytest.mark.parametrize(
    "prefix", ["ü ß ", "漢字-", "a b?c#d&e=", "x" * 180, "..", "[bold]", "\u202e", "👩‍🔬", "'\";--"]
)
def test_unusual_ids_work_in_every_path(api: TestClient, run_id: str, prefix: str) -> None:
    unusual = f"{prefix}{run_id}"
    path = f"/agent-runs/{quote(unusual, safe='')}"
    assert api.post("/agent-runs", json=minimal_run(unusual, steps=[step("s1")])).status_code == 201

    assert api.get(path).json()["run_id"] == unusual
    assert api.get(f"{path}/timeline").json()["total"] == 1
    assert api.post(f"{path}/rca-runs").status_code == 202
    assert api.delete(path).status_code == 204
    assert api.get(path).status_code == 404


def test_percent_signs_in_ids_are_taken_literally(api: TestClient, run_id: str) -> None:
    """Send the path with httpx, because the test client would unquote it twice."""
    literal = f"{run_id}%2Fx"
    api.post("/agent-runs", json=minimal_run(literal))

    async def show() -> httpx.Response:
        transport = httpx.ASGITransport(api.app, client=("127.0.0.1", 1))
        async with httpx.AsyncClient(transport=transport, base_url=LOOPBACK_URL) as client:
            return await client.get(f"/agent-runs/{quote(literal, safe='')}")

    assert anyio.run(show).json()["run_id"] == literal


@pytest.mark.parametrize("path", ["", "/timeline", "/rca-runs"])
def test_unknown_run_is_not_found(api: TestClient, path: str) -> None:
    problem = assert_problem(api.get(f"/agent-runs/nowhere{path}"), 404, "agent_run_not_found")

    assert "nowhere" in problem["detail"]


@pytest.mark.parametrize("bad", ["x" * 201, "a%00b", "a%1Fb", "a%C2%9Bb", "%2E%2E"])
def test_ids_that_no_run_can_have_are_invalid(api: TestClient, bad: str) -> None:
    for method, path in [
        ("GET", ""),
        ("GET", "/timeline"),
        ("DELETE", ""),
        ("POST", "/rca-runs"),
        ("GET", "/rca-runs"),
    ]:
        response = api.request(method, f"/agent-runs/{bad}{path}")
        assert response.status_code in {404, 405, 422}, "a client may resolve the dots itself"
        assert_problem(response, response.status_code)


def test_a_deleted_run_is_gone_with_its_analyses(api: TestClient, installation: Services, run_id: str) -> None:
    api.post("/agent-runs", json=failed_run(run_id))
    rca_run_id = api.post(f"/agent-runs/{run_id}/rca-runs").json()["rca_run_id"]
    run_jobs(installation)
    assert api.get(f"/agent-runs/rca-runs/{rca_run_id}").json()["status"] == "done"

    assert api.delete(f"/agent-runs/{run_id}").status_code == 204

    assert_problem(api.delete(f"/agent-runs/{run_id}"), 404, "agent_run_not_found")
    assert_problem(api.get(f"/agent-runs/{run_id}"), 404)
    assert_problem(api.get(f"/agent-runs/{run_id}/timeline"), 404)
    assert_problem(api.post(f"/agent-runs/{run_id}/rca-runs"), 404)
    run_jobs(installation)
    assert_problem(api.get(f"/agent-runs/rca-runs/{rca_run_id}"), 404, "rca_run_not_found")
    assert_problem(api.get(f"/rca-runs/{rca_run_id}/stream"), 404, "rca_run_not_found")
    assert installation.progress.read_after(rca_run_id) == []


def test_run_deleted_before_its_analysis_leaves_no_analysis_and_no_events(
    api: TestClient, installation: Services, run_id: str
) -> None:
    api.post("/agent-runs", json=failed_run(run_id))
    rca_run_id = api.post(f"/agent-runs/{run_id}/rca-runs").json()["rca_run_id"]
    api.delete(f"/agent-runs/{run_id}")

    run_jobs(installation)

    assert_problem(api.get(f"/agent-runs/rca-runs/{rca_run_id}"), 404)
    assert installation.progress.read_after(rca_run_id) == []


def test_a_run_can_be_posted_again_after_its_deletion(api: TestClient, installation: Services, run_id: str) -> None:
    api.post("/agent-runs", json=failed_run(run_id))
    api.delete(f"/agent-runs/{run_id}")

    assert api.post("/agent-runs", json=failed_run(run_id)).status_code == 201
    run_jobs(installation)
    assert api.get(f"/agent-runs/{run_id}").status_code == 200


@pytest.mark.parametrize(
    "media_type",
    ["application/json", "application/json; charset=utf-8", "APPLICATION/JSON", "application/vnd.run+json"],
)
def test_json_media_types_are_accepted(api: TestClient, run_id: str, media_type: str) -> None:
    raw = json.dumps(minimal_run(run_id)).encode()

    assert api.post("/agent-runs", content=raw, headers={"content-type": media_type}).status_code == 201


def test_a_gzip_body_is_unpacked(api: TestClient, run_id: str) -> None:
    packed = gzip.compress(json.dumps(failed_run(run_id)).encode())
    headers = {"content-type": "application/json", "content-encoding": "gzip"}

    assert api.post("/agent-runs", content=packed, headers=headers).status_code == 201
    assert api.get(f"/agent-runs/{run_id}").json()["counts"]["steps"] == 2


def test_extreme_numbers_are_stored_exactly(api: TestClient, run_id: str) -> None:
    values: dict[str, Any] = {"latency_ms": 5e-324, "big": 2**80, "small": -1.7e308, "retries": 2**63 - 1}
    api.post("/agent-runs", json=minimal_run(run_id, steps=[step("s1", **values)], cost={"total_cost_usd": 1e12}))

    data = api.get(f"/agent-runs/{run_id}/timeline").json()["items"][0]["data"]

    assert {name: data[name] for name in values} == values


def test_reserved_run_id_is_rejected_with_its_field(api: TestClient) -> None:
    problem = assert_problem(api.post("/agent-runs", json=minimal_run("rca-runs")), 422, "invalid_agent_run")

    assert fields_of(problem) == ["run_id"]
    assert "reserved" in problem["errors"][0]["message"]


def test_concurrent_posts_of_one_run_leave_one_of_them_whole(api: TestClient, run_id: str) -> None:
    bodies = [minimal_run(run_id, steps=[step(f"s{n}-{m}") for m in range(n)]) for n in range(1, 9)]

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda body: api.post("/agent-runs", json=body), bodies))

    assert sorted(answer.status_code for answer in answers) == [200] * 7 + [201]
    timeline = api.get(f"/agent-runs/{run_id}/timeline").json()
    kept = timeline["total"]
    assert [item["ref_id"] for item in timeline["items"]] == [f"s{kept}-{m}" for m in range(kept)]
    assert api.get(f"/agent-runs/{run_id}").json()["content_hash"] == answers[kept - 1].json()["content_hash"]

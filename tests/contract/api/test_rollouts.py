"""Rollouts over HTTP: a worker executes them; a person applies and rolls back."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from starlette.testclient import TestClient

from relab.bootstrap import Services
from relab.flags.models import ServiceFlags
from support.api.client import assert_problem, read_events, run_jobs
from support.rollouts.plans import CONC_CAP, faster_b
from support.rollouts.small_service import SmallService, small_service


@pytest.fixture
def service() -> Iterator[SmallService]:
    with small_service(delay_s=faster_b) as started:
        yield started


def plan_of(service: SmallService, **fields: Any) -> dict[str, Any]:
    experiment = {
        "qps": 40, "window_sec": 0.25, "warmup_sec": 0, "rounds": 2, "flow_policy": "fixed", "conc_cap": CONC_CAP,
        "routing_mode": "keep",
    }  # fmt: skip
    return {"base_url": service.url, "timeout": 2, "experiment": experiment, **fields}


def test_rollout_is_executed_by_a_worker_and_can_be_followed(
    api: TestClient, installation: Services, service: SmallService
) -> None:
    posted = api.post("/rollouts", json=plan_of(service, policy="seed"))
    assert posted.status_code == 202, posted.text
    rollout_id = posted.json()["rollout_id"]
    assert posted.headers["Location"] == f"/rollouts/{rollout_id}"
    assert posted.json()["status"] == "queued"

    run_jobs(installation)

    shown = api.get(f"/rollouts/{rollout_id}").json()
    assert shown["status"] == "done"
    assert shown["judgement"]["verdict"] == "PASS"
    assert shown["application"]["applied"] is True
    assert len(shown["windows"]) == 4
    assert shown["audit"][0]["action"] == "requested"
    assert service.flags.control.max_concurrency == CONC_CAP
    assert service.report["ok"] is True
    events = [data for _, data in read_events(api.get(f"/rollouts/{rollout_id}/stream").text)]
    assert events[0]["status"] == "queued"
    assert any("window 3/4" in event["message"] for event in events)
    assert events[-1]["status"] == "done"
    assert [item["rollout_id"] for item in api.get("/rollouts", params={"limit": 1}).json()["items"]] == [rollout_id]


def test_queued_rollout_that_is_stopped_never_begins(
    api: TestClient, installation: Services, service: SmallService
) -> None:
    rollout_id = api.post("/rollouts", json=plan_of(service)).json()["rollout_id"]

    stopped = api.post(f"/rollouts/{rollout_id}/stop", json={"note": "Wrong plan."})
    run_jobs(installation)

    shown = api.get(f"/rollouts/{rollout_id}").json()
    assert stopped.status_code == 202
    assert stopped.json()["status"] == "interrupted"
    assert shown["windows"] == []
    assert [entry["action"] for entry in shown["audit"]] == ["requested", "stopped"]
    assert "Wrong plan." in shown["error"]
    assert service.flags == ServiceFlags()
    events = [data for _, data in read_events(api.get(f"/rollouts/{rollout_id}/stream").text)]
    assert events[-1]["status"] == "failed"
    assert_problem(api.post(f"/rollouts/{rollout_id}/stop"), 409)
    assert_problem(api.post("/rollouts/missing/stop"), 404)


def test_person_applies_an_edge_and_rolls_it_back(
    api: TestClient, installation: Services, service: SmallService
) -> None:
    rollout_id = api.post("/rollouts", json=plan_of(service)).json()["rollout_id"]
    assert_problem(api.post(f"/rollouts/{rollout_id}/apply"), 409, "rollout_state")
    run_jobs(installation)
    assert api.get(f"/rollouts/{rollout_id}").json()["judgement"]["verdict"] == "EDGE"

    applied = api.post(f"/rollouts/{rollout_id}/apply", json={"note": "Fine."})

    assert applied.status_code == 200, applied.text
    assert service.flags.control.max_concurrency == CONC_CAP
    assert_problem(api.post(f"/rollouts/{rollout_id}/apply"), 409, "rollout_state")
    rolled_back = api.post(f"/rollouts/{rollout_id}/rollback")
    assert rolled_back.status_code == 200, rolled_back.text
    assert service.flags == ServiceFlags()
    assert [entry["action"] for entry in rolled_back.json()["audit"]] == ["requested", "applied", "rolled_back"]
    assert rolled_back.json()["audit"][1]["note"] == "Fine."


def test_flags_changed_by_another_client_are_not_overwritten(
    api: TestClient, installation: Services, service: SmallService
) -> None:
    rollout_id = api.post("/rollouts", json=plan_of(service)).json()["rollout_id"]
    run_jobs(installation)
    service.change({"control": {"max_concurrency": 9}}, None)

    assert_problem(api.post(f"/rollouts/{rollout_id}/apply"), 412, "flags_changed")

    assert service.flags.control.max_concurrency == 9


def test_target_that_is_down_fails_the_rollout_and_names_the_reason(
    api: TestClient, installation: Services, service: SmallService
) -> None:
    plan = {**plan_of(service), "base_url": "http://127.0.0.1:9"}
    rollout_id = api.post("/rollouts", json=plan).json()["rollout_id"]

    run_jobs(installation)

    shown = api.get(f"/rollouts/{rollout_id}").json()
    assert shown["status"] == "failed"
    assert "does not answer" in shown["error"]


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"report": {"output_path": "/tmp/summary.txt"}}, "report.output_path"),
        ({"report": {"history_path": "../h.jsonl"}}, "report.history_path"),
        ({"experiment": {"mix": "/etc/passwd"}}, "experiment.mix"),
        ({"experiment": {"knob": 1}}, "experiment.knob"),
        ({"speed": 1}, "speed"),
        ({"base_url": "http://10.0.0.7"}, "base_url"),
        ({"subject": {"flags": {"kind": "service"}, "health": {"url": "http://10.0.0.7/x"}}}, "subject.health.url"),
        ({"thresholds": {"max_error_rate": -1}}, "thresholds.max_error_rate"),
    ],
)
def test_invalid_plan_is_rejected_with_the_field(
    api: TestClient, service: SmallService, fields: dict[str, Any], field: str
) -> None:
    answer = api.post("/rollouts", json={"base_url": service.url, **fields})

    assert answer.status_code == 422, answer.text
    assert field in [error["field"] for error in answer.json()["errors"]]


def test_headers_cannot_use_environment_variables_without_the_rollout_prefix(
    api: TestClient, service: SmallService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RELAB_LLM__API_KEY", "s3cret")
    subject = {"flags": {"kind": "service", "headers": {"X": "${RELAB_LLM__API_KEY}"}}}

    answer = api.post("/rollouts", json={"base_url": service.url, "subject": subject})

    assert answer.status_code == 422
    assert "must begin with ROLLOUT_" in answer.json()["detail"]
    assert service.headers == []


def test_rollout_that_cannot_begin_has_failed_with_the_reason(
    api: TestClient, installation: Services, service: SmallService, monkeypatch: pytest.MonkeyPatch
) -> None:
    subject = {
        "flags": {
            "kind": "http", "method": "PUT", "url": f"{service.url}/limit", "body": {"max": "$value"},
            "pointer": "/max", "headers": {"Authorization": "Bearer ${ROLLOUT_TOKEN}"}, "b": 20,
        },
    }  # fmt: skip
    plan = {"base_url": service.url, "experiment": {"window_sec": 0.25, "rounds": 2}, "subject": subject}
    monkeypatch.setenv("ROLLOUT_TOKEN", "secret")
    posted = api.post("/rollouts", json=plan)
    assert posted.status_code == 202, posted.text
    monkeypatch.delenv("ROLLOUT_TOKEN")

    run_jobs(installation)

    shown = api.get(posted.headers["Location"]).json()
    assert shown["status"] == "failed"
    assert "ROLLOUT_TOKEN" in shown["error"]


@pytest.mark.parametrize("path", ["/rollouts/none", "/rollouts/none/stream"])
def test_unknown_rollout_is_not_found(api: TestClient, path: str) -> None:
    assert_problem(api.get(path), 404, "rollout_not_found")

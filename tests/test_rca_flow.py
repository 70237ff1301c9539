"""The tests of requesting an analysis that the AgentOps seed requires, under the names that it gives."""

from __future__ import annotations

import json
from uuid import UUID

from relab.bootstrap import Services
from support.api.client import run_jobs, running_api
from support.telemetry.seeds import seed_body


def test_create_rca_run(services: Services) -> None:
    with running_api(services) as client:
        client.post("/agent-runs", json=json.loads(seed_body(1)))
        created = client.post("/agent-runs/run-001-sufficient/rca-runs")
        rca_run_id = created.json()["rca_run_id"]
        queued = client.get(f"/agent-runs/rca-runs/{rca_run_id}").json()
        run_jobs(services)
        done = client.get(f"/agent-runs/rca-runs/{rca_run_id}").json()
        missing = client.post("/agent-runs/run-999/rca-runs")

    assert created.status_code == 202
    assert str(UUID(rca_run_id)) == rca_run_id
    assert queued["status"] == "queued"
    assert queued["report"] is None
    assert done["run_id"] == "run-001-sufficient"
    assert done["status"] == "done"
    assert done["report"]["category"] == "tool_schema_mismatch"
    assert missing.status_code == 404


def test_rca_run_idempotency(services: Services) -> None:
    run = json.loads(seed_body(1))
    path = "/agent-runs/run-001-sufficient/rca-runs"
    with running_api(services) as client:

        def request(query: str = "") -> str:
            return str(client.post(path + query).json()["rca_run_id"])

        client.post("/agent-runs", json=run)
        while_queued = [request(), request()]
        run_jobs(services)
        when_done = request()
        forced = request("?force=true")
        after_forced = request()
        run_jobs(services)
        client.post("/agent-runs", json={**run, "error_message": "another failure"})
        of_other_content = request()
        listed = [item["rca_run_id"] for item in client.get(path).json()]

    first = while_queued[0]
    assert while_queued == [first, first]
    assert when_done == first
    assert after_forced == forced
    assert len({first, forced, of_other_content}) == 3
    assert listed == [of_other_content, forced, first]
